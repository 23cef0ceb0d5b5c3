{{- define "gptoss.weightsClaim" -}}
{{- .Values.weights.claim | default (printf "%s-weights" (include "gptoss.fullname" .)) -}}
{{- end -}}

{{/* The models that come from the claim, as a YAML map of each to one of its pools. */}}
{{- define "gptoss.claimedModels" -}}
{{- $models := dict -}}
{{- range $name, $pool := include "gptoss.pools" . | fromYaml -}}
{{- if not (hasKey $.Values.weights.images $pool.model) -}}
{{- $_ := set $models $pool.model $pool -}}
{{- end -}}
{{- end -}}
{{- toYaml $models -}}
{{- end -}}

{{/* The port of the hub: that of its URL. */}}
{{- define "gptoss.hubPort" -}}
{{- include "gptoss.urlPort" (.Values.weights.endpoint | default "https://") -}}
{{- end -}}

{{/* Variables that the chart sets in the Job. */}}
{{- define "gptoss.weightsEnv" -}}
- name: HF_HUB_CACHE
  value: /weights/hub
- name: GPTOSS_CACHE_DIR
  value: /weights/gptoss
{{- if .Values.offline }}
- name: HF_HUB_OFFLINE
  value: "1"
{{- end }}
{{- with .Values.weights.endpoint }}
- name: HF_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.weights.tokenSecret }}
{{ include "gptoss.secretEnv" (dict "name" "HF_TOKEN" "secret" . "key" "token") }}
{{- end }}
{{- end -}}

{{/* The option that names the revision; a model that is built has none. Takes (dict "root" $ "model" "gpt-oss-120b"). */}}
{{- define "gptoss.revision" -}}
{{- if (get (include "gptoss.facts" .root | fromYaml).models .model).gigabytes -}}
- --revision={{ .root.Values.weights.revision }}
{{- end -}}
{{- end -}}

{{/* The Job's pod. Takes (dict "root" $ "model" "gpt-oss-120b" "pool" $pool). */}}
{{- define "gptoss.weightsPod" -}}
{{- $facts := get (include "gptoss.facts" .root | fromYaml).models .model -}}
{{- include "gptoss.pod" (dict "root" .root "account" "weights" "user" 10001) }}
restartPolicy: OnFailure
{{- $oneNode := not (has "ReadWriteMany" .root.Values.weights.accessModes) }}
{{- with .root.Values.weights.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat .root.Values.weights.tolerations (ternary .pool.tolerations list $oneNode) }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $oneNode }}
# The claim is one node's, and that is the engine's: it waits there for what this fetches.
affinity:
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "gptoss.selector" (dict "root" .root "component" "engine") | nindent 12 }}
{{- end }}
containers:
  - name: weights
    {{- if $facts.gigabytes }}
    image: {{ include "gptoss.image" (dict "root" .root "image" .root.Values.images.gateway "value" "images.gateway") }}
    {{- else }}
    # This model is built, which takes what only the engine's image has.
    image: {{ include "gptoss.engineImage" . }}
    {{- end }}
    imagePullPolicy: {{ .root.Values.images.pullPolicy }}
    args:
      - weights
      - {{ .model }}
      {{- include "gptoss.revision" . | nindent 6 }}
      {{- if and .root.Values.offline $facts.gigabytes }}
      - --offline
      {{- end }}
    env:
      {{- include "gptoss.weightsEnv" .root | nindent 6 }}
      {{- with .root.Values.weights.env }}
      {{- include "gptoss.env" . | trim | nindent 6 }}
      {{- end }}
    securityContext:
      {{- include "gptoss.security" (dict "readOnly" true) | nindent 6 }}
    resources:
      {{- toYaml .root.Values.weights.resources | nindent 6 }}
    volumeMounts:
      - name: weights
        mountPath: /weights
      - name: cache
        mountPath: /var/cache/gptoss
      - name: state
        mountPath: /var/lib/gptoss
      - name: tmp
        mountPath: /tmp
volumes:
  - name: weights
    persistentVolumeClaim:
      claimName: {{ include "gptoss.weightsClaim" .root }}
  - name: cache
    emptyDir:
      sizeLimit: "4Gi"
  - name: state
    emptyDir:
      sizeLimit: "256Mi"
  - name: tmp
    emptyDir:
      sizeLimit: "4Gi"
{{- end -}}
