{{/* What no schema can say. Each message names the value and what to do. Called by validations.yaml. */}}

{{- define "gptoss.validate" -}}
{{- include "gptoss.validatePools" . -}}
{{- include "gptoss.validateStore" (dict "value" "database" "store" .Values.database "what" "a PostgreSQL") -}}
{{- include "gptoss.validateStore" (dict "value" "quota" "store" .Values.quota "what" "a Valkey or Redis") -}}
{{- include "gptoss.validateGateway" . -}}
{{- include "gptoss.validateWeights" . -}}
{{- include "gptoss.validateLabels" (dict "value" "commonLabels" "labels" .Values.commonLabels) -}}
{{- include "gptoss.validateLabels" (dict "value" "gateway.podLabels" "labels" .Values.gateway.podLabels) -}}
{{- $_ := include "gptoss.gatewayGrace" . -}}
{{- end -}}

{{- define "gptoss.validateLabels" -}}
{{- range $name, $_ := .labels -}}
{{- if regexMatch "^(app\\.kubernetes\\.io|helm\\.sh|gptoss)/" $name -}}
{{- fail (printf "%s: %s is the chart's own label: choose another name" $.value $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "gptoss.validatePools" -}}
{{- if not .Values.engine.pools -}}
{{- fail "engine.pools: name at least one, such as --set engine.pools.h100.profile=h100-80g (`gptoss profiles` lists the profiles)" -}}
{{- end -}}
{{- $pools := include "gptoss.pools" . | fromYaml -}}
{{- $weights := dict -}}
{{- range $name, $pool := $pools -}}
{{- $value := printf "engine.pools.%s" $name -}}
{{- $_ := set $weights $pool.model (addf $pool.weight (get $weights $pool.model | default 0)) -}}
{{- if and (eq (toString $pool.rollout.surge | trimSuffix "%") "0") (eq (toString $pool.rollout.unavailable | trimSuffix "%") "0") -}}
{{- fail (printf "%s.rollout: with surge 0 and unavailable 0 no engine could ever be replaced: let one of them be 1" $value) -}}
{{- end -}}
{{- if $pool.autoscaling.enabled -}}
{{- if not $.Values.keda.prometheus -}}
{{- fail (printf "%s.autoscaling: name the Prometheus that has the metrics in keda.prometheus" $value) -}}
{{- end -}}
{{- if gt (int $pool.autoscaling.minReplicas) (int $pool.autoscaling.maxReplicas) -}}
{{- fail (printf "%s.autoscaling: minReplicas is more than maxReplicas" $value) -}}
{{- end -}}
{{- if and (not (int $pool.autoscaling.minReplicas)) (not (int $.Values.gateway.holdSeconds)) -}}
{{- fail (printf "%s.autoscaling.minReplicas: 0 needs gateway.holdSeconds, or nobody waits for an engine to start" $value) -}}
{{- end -}}
{{- end -}}
{{- include "gptoss.validateLabels" (dict "value" (printf "%s.podLabels" $value) "labels" $pool.podLabels) -}}
{{- range $variable, $_ := $pool.env -}}
{{- if or (hasPrefix "GPTOSS_" $variable) (has $variable (list "VLLM_API_KEY" "HF_HUB_OFFLINE" "HF_HUB_CACHE")) -}}
{{- fail (printf "%s.env: %s is set by the chart: use the value that it follows from" $value $variable) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $model, $sum := $weights -}}
{{- if not $sum -}}
{{- fail (printf "engine.pools: all pools of %s have weight 0" $model) -}}
{{- end -}}
{{- end -}}
{{- range $model, $other := .Values.engine.fallbacks -}}
{{- if or (not (hasKey $weights $model)) (not (hasKey $weights $other)) (eq $model $other) -}}
{{- fail (printf "engine.fallbacks: %s to %s: both must be models of pools, and two of them" $model $other) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "gptoss.validateStore" -}}
{{- if and .store.existingSecret .store.trial.enabled -}}
{{- fail (printf "%s: name a Secret in existingSecret or set trial.enabled, not both" .value) -}}
{{- end -}}
{{- if not (or .store.existingSecret .store.trial.enabled) -}}
{{- fail (printf "%s: put the URL of %s into a Secret and name it in %s.existingSecret; for a trial set %s.trial.enabled" .value .what .value .value) -}}
{{- end -}}
{{- end -}}

{{- define "gptoss.validateGateway" -}}
{{- $gateway := .Values.gateway -}}
{{- $own := list "GPTOSS_GATEWAY__PORT" "GPTOSS_GATEWAY__OPS_PORT" "GPTOSS_GATEWAY__UPSTREAMS" "GPTOSS_GATEWAY__MODELS" "GPTOSS_ADMIN__PORT" "GPTOSS_QUOTA__GATEWAYS" "GPTOSS_STATE_DIR" -}}
{{- range $variable, $_ := $gateway.env -}}
{{- if or (has $variable $own) (contains (printf "- name: %s\n" $variable) (include "gptoss.gatewayEnv" $)) -}}
{{- fail (printf "gateway.env: %s is set by the chart: use the value that it follows from" $variable) -}}
{{- end -}}
{{- end -}}
{{- if and $gateway.autoscaling.enabled (gt (int $gateway.autoscaling.maxReplicas) (mul 5 (int $gateway.autoscaling.minReplicas))) -}}
{{- fail "gateway.autoscaling: maxReplicas is more than five times minReplicas, by which an engine's slots are shared out: raise minReplicas" -}}
{{- end -}}
{{- if gt (int $gateway.holdSeconds) (int $gateway.requestSeconds) -}}
{{- fail "gateway.holdSeconds: requests may not be held for longer than requestSeconds" -}}
{{- end -}}
{{- if and $gateway.autoscaling.enabled (gt (int $gateway.autoscaling.minReplicas) (int $gateway.autoscaling.maxReplicas)) -}}
{{- fail "gateway.autoscaling: minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- if and $gateway.ingress.enabled (not $gateway.ingress.hosts) -}}
{{- fail "gateway.ingress: name its hosts, such as [llm.example.com]" -}}
{{- end -}}
{{- if and $gateway.httpRoute.enabled (not $gateway.httpRoute.parentRefs) -}}
{{- fail "gateway.httpRoute: name its Gateway in parentRefs, such as [{name: public, namespace: ingress}]" -}}
{{- end -}}
{{- $timeout := get $gateway.ingress.annotations "nginx.ingress.kubernetes.io/proxy-read-timeout" -}}
{{- if and $gateway.ingress.enabled $timeout (lt (int $timeout) (int $gateway.requestSeconds)) -}}
{{- fail (printf "gateway.ingress.annotations: proxy-read-timeout %s would cut requests that may take requestSeconds, %d" $timeout (int $gateway.requestSeconds)) -}}
{{- end -}}
{{- end -}}

{{- define "gptoss.validateWeights" -}}
{{- range $variable, $_ := .Values.weights.env -}}
{{- if has $variable (list "HF_HUB_CACHE" "GPTOSS_CACHE_DIR" "HF_HUB_OFFLINE" "HF_ENDPOINT" "HF_TOKEN") -}}
{{- fail (printf "weights.env: %s is set by the chart: use the value that it follows from" $variable) -}}
{{- end -}}
{{- end -}}
{{- range $model, $image := .Values.weights.images -}}
{{- if semverCompare "<1.33.0-0" $.Capabilities.KubeVersion.Version -}}
{{- fail (printf "weights.images.%s: image volumes need Kubernetes 1.33, with the feature gate ImageVolume below 1.35, and this is %s: use a claim" $model $.Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if not (hasKey (include "gptoss.facts" $ | fromYaml).models $model) -}}
{{- fail (printf "weights.images: there is no model %q" $model) -}}
{{- end -}}
{{- end -}}
{{- if not (has "ReadWriteMany" .Values.weights.accessModes) -}}
{{- range $name, $pool := include "gptoss.pools" . | fromYaml -}}
{{- $several := or (gt (int $pool.replicas) 1) $pool.autoscaling.enabled (gt (len $.Values.engine.pools) 1) -}}
{{- if and $several (not $pool.nodeSelector) (not (hasKey $.Values.weights.images $pool.model)) -}}
{{- fail (printf "weights.accessModes: several engines need ReadWriteMany, or engine.pools.%s.nodeSelector that is one node" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $facts := include "gptoss.facts" . | fromYaml -}}
{{- $need := 0 -}}
{{- range $model, $_ := include "gptoss.claimedModels" . | fromYaml -}}
{{- $need = add $need (int (get $facts.models $model).gigabytes) -}}
{{- end -}}
{{- /* 1 GB is 0.93 GiB. Sizes in other units are believed. */ -}}
{{- $size := .Values.weights.size -}}
{{- if and (not .Values.weights.claim) (hasSuffix "Gi" $size) (lt (trimSuffix "Gi" $size | float64) (mulf $need 0.93132257)) -}}
{{- fail (printf "weights.size: %s is too small for these models, which take %d GB" $size (int $need)) -}}
{{- end -}}
{{- end -}}
