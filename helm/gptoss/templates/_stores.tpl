{{/* Where secrets and stores are. Each of the first four prints a Secret's name or a key in it. */}}

{{- define "gptoss.keysSecret" -}}
{{- .Values.secrets.existing | default (printf "%s-keys" (include "gptoss.fullname" .)) -}}
{{- end -}}

{{- define "gptoss.databaseSecret" -}}
{{- .Values.database.existingSecret | default (printf "%s-postgresql" (include "gptoss.fullname" .)) -}}
{{- end -}}

{{- define "gptoss.quotaSecret" -}}
{{- .Values.quota.existingSecret | default (printf "%s-valkey" (include "gptoss.fullname" .)) -}}
{{- end -}}

{{- define "gptoss.databaseEnv" -}}
{{- $key := ternary .Values.database.existingSecretKey "url" (ne .Values.database.existingSecret "") -}}
{{- include "gptoss.secretEnv" (dict "name" "GPTOSS_DATABASE__URL" "secret" (include "gptoss.databaseSecret" .) "key" $key) -}}
{{- end -}}

{{- define "gptoss.quotaEnv" -}}
{{- $key := ternary .Values.quota.existingSecretKey "url" (ne .Values.quota.existingSecret "") -}}
{{- include "gptoss.secretEnv" (dict "name" "GPTOSS_QUOTA__URL" "secret" (include "gptoss.quotaSecret" .) "key" $key) -}}
{{- end -}}

{{/* A value of a Secret that is made once: what the cluster has already, or 40 new random characters, encoded.
Takes (dict "root" $ "secret" "name" "key" "k"). */}}
{{- define "gptoss.random" -}}
{{- $there := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- $old := "" -}}
{{- if $there }}{{ $old = get ($there.data | default dict) .key }}{{ end -}}
{{- $old | default (randAlphaNum 40 | b64enc) -}}
{{- end -}}
