{{/* What pods have in common. */}}

{{/* The beginning of every pod's spec. Takes (dict "root" $ "account" "gateway" "user" 10001). */}}
{{- define "gptoss.pod" -}}
serviceAccountName: {{ include "gptoss.fullname" .root }}-{{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Of every container. */}}
{{- define "gptoss.security" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: {{ .readOnly }}
capabilities:
  drop: [ALL]
{{- end -}}

{{/* A map of variables as a list. */}}
{{- define "gptoss.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* A variable from a Secret. Takes (dict "name" "X" "secret" "s" "key" "k"). */}}
{{- define "gptoss.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end -}}

{{/* The small containers that wait for somebody. */}}
{{- define "gptoss.waiterResources" -}}
requests:
  cpu: "50m"
  memory: "128Mi"
limits:
  memory: "1Gi"
{{- end -}}
