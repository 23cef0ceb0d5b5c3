{{- define "gptoss.gatewayName" -}}
{{ include "gptoss.fullname" . }}-gateway
{{- end -}}

{{/* Names for clients, and the pools behind each, as YAML. */}}
{{- define "gptoss.models" -}}
{{- $models := dict -}}
{{- range $name, $pool := include "gptoss.pools" . | fromYaml -}}
{{- $model := get $models $pool.model | default (dict "pools" (dict)) -}}
{{- $_ := set $model.pools $name $pool.weight -}}
{{- with get $.Values.engine.fallbacks $pool.model }}{{ $_ := set $model "fallback" . }}{{ end -}}
{{- $_ := set $models $pool.model $model -}}
{{- end -}}
{{- toYaml $models -}}
{{- end -}}

{{/* The gateways to be counted on: what a limit is divided by while the quota store is away. */}}
{{- define "gptoss.gatewayCount" -}}
{{- ternary .Values.gateway.autoscaling.minReplicas .Values.gateway.replicas .Values.gateway.autoscaling.enabled | int -}}
{{- end -}}

{{/* Variables that the chart sets. */}}
{{- define "gptoss.gatewayEnv" -}}
- name: GPTOSS_CONFIG
  value: /etc/gptoss/gptoss.yaml
- name: GPTOSS_GATEWAY__HOST
  value: {{ .Values.listen | quote }}
- name: GPTOSS_GATEWAY__OPS_HOST
  value: {{ .Values.listen | quote }}
- name: GPTOSS_ADMIN__HOST
  value: {{ .Values.listen | quote }}
- name: GPTOSS_GATEWAY__TOTAL_TIMEOUT
  value: {{ .Values.gateway.requestSeconds | quote }}
- name: GPTOSS_ROUTING__HOLD
  value: {{ .Values.gateway.holdSeconds | quote }}
- name: GPTOSS_DRAIN
  value: {{ .Values.drainSeconds | quote }}
- name: GPTOSS_NOTICE
  value: {{ include "gptoss.notice" . | quote }}
- name: GPTOSS_TERMINATION_GRACE
  value: {{ include "gptoss.gatewayGrace" . | quote }}
{{ include "gptoss.databaseEnv" . }}
{{ include "gptoss.quotaEnv" . }}
{{ include "gptoss.secretEnv" (dict "name" "GPTOSS_GATEWAY__ENGINE_KEY" "secret" (include "gptoss.keysSecret" .) "key" "engine-key") }}
{{ include "gptoss.secretEnv" (dict "name" "GPTOSS_ADMIN__TOKEN" "secret" (include "gptoss.keysSecret" .) "key" "admin-token") }}
{{- with .Values.tracing }}
{{- if .endpoint }}
- name: GPTOSS_TELEMETRY__OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: GPTOSS_TELEMETRY__SAMPLE
  value: {{ .sample | quote }}
{{- with .headersSecret }}
{{ include "gptoss.secretEnv" (dict "name" "GPTOSS_TELEMETRY__OTLP_HEADERS" "secret" . "key" "headers") }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A pod that runs a command of the gateway's image against the database. Takes (dict "root" $ "args" (list …)
"name" "migrate"). */}}
{{- define "gptoss.command" -}}
name: {{ .name }}
image: {{ include "gptoss.image" (dict "root" .root "image" .root.Values.images.gateway "value" "images.gateway") }}
imagePullPolicy: {{ .root.Values.images.pullPolicy }}
args:
  {{- toYaml .args | nindent 2 }}
env:
  {{- include "gptoss.databaseEnv" .root | nindent 2 }}
securityContext:
  {{- include "gptoss.security" (dict "readOnly" true) | nindent 2 }}
resources:
  {{- include "gptoss.waiterResources" .root | nindent 2 }}
volumeMounts:
  - name: state
    mountPath: /var/lib/gptoss
  - name: tmp
    mountPath: /tmp
{{- end -}}

{{/* The volumes of such a pod. */}}
{{- define "gptoss.commandVolumes" -}}
- name: state
  emptyDir:
    sizeLimit: "256Mi"
- name: tmp
  emptyDir:
    sizeLimit: "256Mi"
{{- end -}}
