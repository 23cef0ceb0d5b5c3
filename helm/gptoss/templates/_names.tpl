{{/* Names and labels. A component is one of engine, gateway, migrate, weights, valkey, postgresql, test. */}}

{{- define "gptoss.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters, so that what is put behind it stays within the 63 of a DNS label. */}}
{{- define "gptoss.fullname" -}}
{{- $name := include "gptoss.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects a component's pods: never changes. Takes (dict "root" $ "component" "engine" "pool" "h100"). */}}
{{- define "gptoss.selector" -}}
app.kubernetes.io/name: {{ include "gptoss.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
gptoss/pool: {{ . }}
{{- end }}
{{- end -}}

{{/* All labels of an object. Takes the same. */}}
{{- define "gptoss.labels" -}}
{{ include "gptoss.selector" . }}
app.kubernetes.io/part-of: gptoss
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of pods: none that another version of the chart would change, for that would restart every engine. */}}
{{- define "gptoss.podLabels" -}}
{{ include "gptoss.selector" . }}
app.kubernetes.io/part-of: gptoss
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The host name of a Service within the cluster; its final dot spares the search domains. Takes (dict "root" $ "name" "x"). */}}
{{- define "gptoss.host" -}}
{{ .name }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}.
{{- end -}}

{{/* An image's reference. Takes (dict "root" $ "image" .Values.images.gateway "value" "images.gateway"). */}}
{{- define "gptoss.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
{{- if and (eq $tag "latest") (not .image.digest) -}}
{{- fail (printf "%s.tag: \"latest\" is another image tomorrow: name a release, or a digest" .value) -}}
{{- end -}}
{{- with .root.Values.images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ .image.repository }}{{ if .image.digest }}@{{ .image.digest }}{{ else }}:{{ $tag }}{{ end }}
{{- end -}}
