{{/*
The pools of engines, complete: each with its defaults and with what its profile says. YAML of a map by name.
It adds `model`, `seats` (requests in one batch), `slots` and `facts` (the profile's data).
*/}}
{{- define "gptoss.pools" -}}
{{- $facts := include "gptoss.facts" . | fromYaml -}}
{{- $pools := dict -}}
{{- range $name, $given := .Values.engine.pools -}}
{{- $pool := deepCopy $.Values.engine.defaults -}}
{{- include "gptoss.merge" (dict "base" $pool "over" $given) -}}
{{- $value := printf "engine.pools.%s" $name -}}
{{- $profile := get $facts.profiles $pool.profile -}}
{{- if not $profile -}}
{{- fail (printf "%s.profile: there is no profile %q: choose one of %s" $value $pool.profile (keys $facts.profiles | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $model := $pool.model | default $profile.model -}}
{{- if not (hasKey $profile.models $model) -}}
{{- fail (printf "%s.model: profile %s does not run %q: choose one of %s" $value $pool.profile $model (keys $profile.models | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $seats := (get $profile.models $model).seats | int -}}
{{- $gateways := include "gptoss.gatewayCount" $ | int -}}
{{- $_ := set $pool "model" $model -}}
{{- $_ := set $pool "seats" $seats -}}
{{- $_ := set $pool "slots" (int $pool.slots | default (divf $seats $gateways | ceil | int)) -}}
{{- $_ := set $pool "facts" $profile -}}
{{- $_ := set $pools $name $pool -}}
{{- end -}}
{{- toYaml $pools -}}
{{- end -}}

{{/* Puts `over` into `base`, map by map. Sprig's own would leave out what is 0, false or empty. */}}
{{- define "gptoss.merge" -}}
{{- range $key, $value := .over -}}
{{- $old := get $.base $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $old) -}}
{{- include "gptoss.merge" (dict "base" $old "over" $value) -}}
{{- else -}}
{{- $_ := set $.base $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" where KEDA is in the cluster and has been told of a Prometheus. */}}
{{- define "gptoss.keda" -}}
{{- if and .Values.keda.prometheus (.Capabilities.APIVersions.Has "keda.sh/v1alpha1") -}}true{{- end -}}
{{- end -}}

{{/* The pool's image as a map. Takes (dict "root" $ "pool" $pool). */}}
{{- define "gptoss.engineImage" -}}
{{- $kinds := dict "nvidia" "engine" "amd" "engineAMD" "cpu" "engineCPU" -}}
{{- $kind := get $kinds .pool.facts.vendor -}}
{{- $image := deepCopy (get .root.Values.images $kind) -}}
{{- if or .pool.image.tag .pool.image.digest -}}
{{- $_ := set $image "tag" .pool.image.tag -}}
{{- $_ := set $image "digest" .pool.image.digest -}}
{{- end -}}
{{- with .pool.image.repository }}{{ $_ := set $image "repository" . }}{{ end -}}
{{- include "gptoss.image" (dict "root" .root "image" $image "value" (printf "images.%s" $kind)) -}}
{{- end -}}
