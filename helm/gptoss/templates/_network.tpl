{{/* Rules that NetworkPolicies share. Ports are numbers: some network plugins take a name for any port. */}}

{{- define "gptoss.egressDNS" -}}
- ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - port: {{ . }}
      protocol: UDP
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end -}}

{{/* To a component of this release. Takes (dict "root" $ "component" "valkey" "port" 6379). */}}
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
"component" "postgresql" "port" 5432). */}}
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

{{/* The port of a URL of HTTP. */}}
{{- define "gptoss.urlPort" -}}
{{- $url := urlParse . -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "80" "443" (eq $url.scheme "http")) -}}
{{- end -}}

{{/* From pods of this release to one of its stores. Takes (dict "root" $ "port" 6379 "components" (list "gateway")). */}}
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
