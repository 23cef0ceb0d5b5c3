{{/* files/rules.yaml for this release.

The file is about every namespace, and each release has its own rules: series of gateways and engines are asked for by
the namespace. Not GPUs, which belong to nodes. After a quote or a bar a name is no series, but the value of a label. */}}
{{- define "gptoss.rules" -}}
{{- $series := `(^|[^"|])\b((?:gptoss[_:]|vllm:)[a-z0-9_:]+|process_[a-z_]+|up)\b` -}}
{{- $own := printf `${1}${2}{namespace=%q}` .Release.Namespace -}}
{{- $runbooks := .Values.monitoring.runbooksUrl | trimSuffix "/" -}}
{{- $grafana := .Values.monitoring.grafanaUrl | trimSuffix "/" -}}
{{- $file := .Files.Get "files/rules.yaml" | fromYaml -}}
{{- range $group := $file.groups -}}
{{- range $rule := $group.rules -}}
{{- /* Two matchers of one series become one. */ -}}
{{- $_ := set $rule "expr" (regexReplaceAll $series $rule.expr $own | replace `"}{` `", `) -}}
{{- with $rule.annotations -}}
{{- if $runbooks -}}{{- $_ := set . "runbook_url" (printf "%s/%s" $runbooks (base .runbook_url)) -}}{{- end -}}
{{- if $grafana -}}{{- $_ := set . "dashboard_url" (print $grafana .dashboard_url) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $file -}}
{{- end -}}
