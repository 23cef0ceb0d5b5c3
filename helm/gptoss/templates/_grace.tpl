{{/* Grace periods, s: all of them follow from drainSeconds, as service/grace.py says. */}}

{{- define "gptoss.facts" -}}
{{ .Files.Get "files/facts.yaml" }}
{{- end -}}

{{- define "gptoss.notice" -}}
{{- (include "gptoss.facts" . | fromYaml).grace.notice | int -}}
{{- end -}}

{{- define "gptoss.gatewayGrace" -}}
{{- $grace := (include "gptoss.facts" . | fromYaml).grace -}}
{{- $least := add (int $grace.notice) (int .Values.drainSeconds) (int $grace.finish) -}}
{{- include "gptoss.grace" (dict "least" $least "given" .Values.gateway.terminationGracePeriodSeconds "value" "gateway") -}}
{{- end -}}

{{/* Takes (dict "root" $ "pool" $pool "name" "h100"). */}}
{{- define "gptoss.engineGrace" -}}
{{- $grace := (include "gptoss.facts" .root | fromYaml).grace -}}
{{- $least := add (int $grace.notice) (int .root.Values.drainSeconds) (int $grace.engineExit) -}}
{{- include "gptoss.grace" (dict "least" $least "given" .pool.terminationGracePeriodSeconds "value" (printf "engine.pools.%s" .name)) -}}
{{- end -}}

{{- define "gptoss.grace" -}}
{{- $given := int .given -}}
{{- if and $given (lt $given (int .least)) -}}
{{- fail (printf "%s.terminationGracePeriodSeconds: %d s would cut streams: drainSeconds needs %d; raise it, or lower drainSeconds" .value $given (int .least)) -}}
{{- end -}}
{{- max $given (int .least) -}}
{{- end -}}
