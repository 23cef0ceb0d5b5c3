{{/* What pods have in common. */}}

{{/* The beginning of every pod's spec. Takes (dict "root" $ "account" "gateway" "user" 10001) and, if there are, "groups". */}}
{{- define "gptoss.pod" -}}
serviceAccountName: {{ include "gptoss.fullname" .root }}-{{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- if .root.Values.fixedUsers }}
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  {{- end }}
  {{- with .groups }}
  supplementalGroups:
    {{- toYaml . | nindent 4 }}
  {{- end }}
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

{{/* The number of pods that an autoscaler has made of a Deployment. Left out of the manifest, it would fall back to
one with the first upgrade after it was in it. Takes (dict "root" $ "name" "x" "least" 2). */}}
{{- define "gptoss.running" -}}
{{- $there := lookup "apps/v1" "Deployment" .root.Release.Namespace .name -}}
{{- if $there }}{{ $there.spec.replicas }}{{ else }}{{ max (int .least) 1 }}{{ end -}}
{{- end -}}
