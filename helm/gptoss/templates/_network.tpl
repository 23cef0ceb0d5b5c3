{{/* Rules that NetworkPolicies share. */}}

{{- define "gptoss.egressDNS" -}}
- ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - port: {{ . }}
      protocol: UDP
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end -}}

{{/* To a component of this release. Takes (dict "root" $ "component" "valkey" "port" "valkey"). */}}
{{- define "gptoss.egressTo" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "gptoss.selector" . | nindent 10 }}
  ports:
    - port: {{ .port }}
      protocol: TCP
{{- end -}}

{{/* To a store: the chart's own, or wherever the values say it is. Takes (dict "root" $ "store" .Values.database
"component" "postgresql" "port" "postgresql"). */}}
{{- define "gptoss.egressStore" -}}
{{- if .store.trial.enabled -}}
{{- include "gptoss.egressTo" . -}}
{{- else -}}
- ports:
    - port: {{ .store.port }}
      protocol: TCP
  {{- with .root.Values.networkPolicy.stores }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* From pods of this release to one of its stores. Takes (dict "root" $ "port" "valkey" "components" (list "gateway")). */}}
{{- define "gptoss.ingressFrom" -}}
- from:
    {{- range .components }}
    - podSelector:
        matchLabels:
          {{- include "gptoss.selector" (dict "root" $.root "component" .) | nindent 10 }}
    {{- end }}
  ports:
    - port: {{ .port }}
      protocol: TCP
{{- end -}}
