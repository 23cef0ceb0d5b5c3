{{/* One pool's engine. These take (dict "root" $ "name" "h100" "pool" $pool). */}}

{{- define "gptoss.engineName" -}}
{{ include "gptoss.fullname" .root }}-engine-{{ .name }}
{{- end -}}

{{/* Probes run in the engine's container: service/engine/probe.py. */}}
{{- define "gptoss.engineProbes" -}}
startupProbe:
  # Passes once a completion, a stream and a tool call came back well-formed: a server that answers
  # /health may still fail its first request.
  exec:
    command: [python3, -m, service.engine.probe, started, --port, "8100"]
  periodSeconds: 15
  timeoutSeconds: 60
  failureThreshold: {{ divf .pool.startupSeconds 15 | ceil | int }}
readinessProbe:
  # Patient: a loaded engine answers late, and gateways have checks of their own.
  httpGet:
    path: /health
    port: http
  periodSeconds: 5
  timeoutSeconds: 10
  failureThreshold: 6
livenessProbe:
  exec:
    command: [python3, -m, service.engine.probe, live, --port, "8100", --timeout, "5", --stall, {{ .pool.stallSeconds | quote }}]
  periodSeconds: 20
  timeoutSeconds: 15
  failureThreshold: 6
  # What hangs has no streams that could end.
  terminationGracePeriodSeconds: {{ add (include "gptoss.notice" .root | int) 30 }}
{{- end -}}

{{/* What the profile asks for, and what the values say over it. */}}
{{- define "gptoss.engineResources" -}}
{{- $facts := .pool.facts -}}
{{- $requests := dict "cpu" (toString $facts.cores) "memory" (printf "%dGi" (int $facts.memoryGiB)) -}}
{{- /* Or it would be the first to go when the node's disk is full. */ -}}
{{- if not .pool.compileCache.claim }}{{ $_ := set $requests "ephemeral-storage" .pool.compileCache.size }}{{ end -}}
{{- $resources := dict "requests" $requests "limits" dict -}}
{{- include "gptoss.merge" (dict "base" $resources "over" .pool.resources) -}}
{{- /* The number of cards is the profile's, whatever the values say: vLLM uses that many. */ -}}
{{- if $facts.resource -}}
{{- $_ := set $resources.requests $facts.resource (toString $facts.cards) -}}
{{- $_ := set $resources.limits $facts.resource (toString $facts.cards) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "gptoss.engineNodes" -}}
{{- with .pool.facts.nodes }}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions:
          {{- toYaml . | nindent 10 }}
{{- end }}
{{- end -}}

{{/* Where the model is, in the container: a folder of an image, or the hub's cache on a claim. */}}
{{- define "gptoss.engineWeightsEnv" -}}
- name: HF_HUB_OFFLINE
  value: "1"
- name: HF_HUB_CACHE
  value: /weights/hub
- name: GPTOSS_CACHE_DIR
  value: /weights/gptoss
{{- end -}}
