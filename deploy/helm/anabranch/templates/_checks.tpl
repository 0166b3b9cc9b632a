{{/* Refuses values that contradict each other, or with which the services would not start. Renders nothing. */}}
{{- define "anabranch.checks" -}}
{{- include "anabranch.checkSettings" . }}
{{- include "anabranch.checkEnv" . }}
{{- include "anabranch.checkTrial" . }}
{{- include "anabranch.checkPools" . }}
{{- include "anabranch.checkBacklog" . }}
{{- if .Values.gateway.enabled }}{{ include "anabranch.checkGateway" . }}{{ end }}
{{- $parts := dict "agency" .Values.agency "eventmanager" .Values.eventmanager }}
{{- if .Values.gateway.enabled }}{{ $_ := set $parts "gateway" .Values.gateway }}{{ end }}
{{- range (include "anabranch.pools" . | fromYaml).pools }}
{{- $_ := set $parts (ternary "taskgroup" (printf "taskgroup.pools %s" .name) (eq .name "default")) .own }}
{{- end }}
{{- range $where, $own := $parts }}
{{- include "anabranch.checkService" (dict "root" $ "where" $where "own" $own) }}
{{- end }}
{{- end }}

{{- define "anabranch.checkSettings" -}}
{{- $homes := dict "brokers" "kafka.brokers" "bootstrap_servers" "kafka.brokers" "redis_url" "redis.url or redis.existingSecret" "prefix" "prefix" "health_port" "healthPort" "replication_factor" "topics.replicationFactor" "pool" "taskgroup.pools" "gateway_host" "nothing: the gateway listens on all addresses of its pod" "gateway_port" "gateway.port" "redis_password" "redis.existingSecret, or the password in redis.url: settings are in a ConfigMap" "api_key" "secretEnv: settings are in a ConfigMap" "executors" "taskgroup.executors.enabled" "executor_commands" "taskgroup.executors.commands" "executor_images" "taskgroup.executors.images" "executor_namespaces" "taskgroup.executors.kubernetes.namespaces" "agent_files" "taskgroup.agentFiles" }}
{{- range $name, $value := .Values.settings }}
{{- with get $homes $name }}
{{- fail (printf "settings.%s: set %s instead; both would set the same variable" $name .) }}
{{- end }}
{{- if hasPrefix "partitions_" $name }}
{{- fail (printf "settings.%s: set topics.partitions.%s instead" $name (trimPrefix "partitions_" $name)) }}
{{- end }}
{{- if hasPrefix "kafka_" $name }}
{{- fail (printf "settings.%s: set kafka.properties (or kafka.secretProperties) %q instead" $name (trimPrefix "kafka_" $name | replace "_" ".")) }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.kafka.secretProperties }}
{{- if hasKey $.Values.kafka.properties $name }}
{{- fail (printf "kafka.properties and kafka.secretProperties both set %q: keep one of the two" $name) }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.kafka.properties }}
{{- if regexMatch "password|secret$|ssl\\.key\\.pem" $name }}
{{- fail (printf "kafka.properties %q is a secret, and properties are in a ConfigMap: move it to kafka.secretProperties or kafka.existingSecret" $name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* A container's own variable would win over the settings in silence */}}
{{- define "anabranch.checkEnv" -}}
{{- $homes := dict "ANABRANCH_BROKERS" "kafka.brokers" "ANABRANCH_BOOTSTRAP_SERVERS" "kafka.brokers" "ANABRANCH_REDIS_URL" "redis.url or redis.existingSecret" "ANABRANCH_PREFIX" "prefix" "ANABRANCH_HEALTH_PORT" "healthPort" "ANABRANCH_REPLICATION_FACTOR" "topics.replicationFactor" "ANABRANCH_DRAIN_SECONDS" "drainSeconds of the service, so that its grace period can be checked" "ANABRANCH_EXECUTORS" "taskgroup.executors.enabled" }}
{{- $all := dict "" .Values "agency." .Values.agency "eventmanager." .Values.eventmanager "gateway." .Values.gateway "topics." .Values.topics }}
{{- range (include "anabranch.pools" . | fromYaml).pools }}
{{- $_ := set $all (ternary "taskgroup." (printf "taskgroup.pools %s: " .name) (eq .name "default")) .own }}
{{- end }}
{{- range $where, $own := $all }}
{{- range $entry := $own.extraEnv }}
{{- with get $homes $entry.name }}
{{- fail (printf "%sextraEnv sets %s: set %s instead" $where $entry.name .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "anabranch.checkTrial" -}}
{{- if .Values.trial.enabled }}
{{- if ne .Values.kafka.brokers "kafka:9092" }}
{{- fail (printf "trial.enabled brings a Kafka of its own, but kafka.brokers is %s: remove one of the two" .Values.kafka.brokers) }}
{{- end }}
{{- if or .Values.redis.existingSecret (ne .Values.redis.url "redis://redis:6379/0") }}
{{- fail "trial.enabled brings a Valkey of its own, but redis.url or redis.existingSecret is set: remove one of the two" }}
{{- end }}
{{- if and .Values.topics.replicationFactor (gt (int .Values.topics.replicationFactor) 1) }}
{{- fail (printf "topics.replicationFactor is %d, but the Kafka of trial.enabled is a single broker: remove it" (int .Values.topics.replicationFactor)) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "anabranch.checkPools" -}}
{{- $names := list }}
{{- range .Values.taskgroup.pools }}
{{- if eq .name "default" }}
{{- fail "taskgroup.pools: the pool \"default\" is taskgroup itself: set its values there" }}
{{- end }}
{{- if has .name $names }}
{{- fail (printf "taskgroup.pools: the pool %q occurs twice" .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- range (include "anabranch.pools" . | fromYaml).pools }}
{{- $where := ternary "taskgroup" (printf "taskgroup.pools %s" .name) (eq .name "default") }}
{{- include "anabranch.checkWorker" (dict "root" $ "where" $where "own" .own) }}
{{- end }}
{{- end }}

{{/* Owners of sessions know what is left to do: without any TaskGroup, no backlog is known, and nothing starts one */}}
{{- define "anabranch.checkBacklog" -}}
{{- $least := 0 }}
{{- $reads := false }}
{{- range (include "anabranch.pools" . | fromYaml).pools }}
{{- $count := ternary 1 .own.replicas (kindIs "invalid" .own.replicas) }}
{{- if .own.keda.enabled }}{{ $count = .own.keda.minReplicas }}{{ $reads = or $reads (eq .own.keda.trigger "backlog") }}
{{- else if .own.autoscaling.enabled }}{{ $count = .own.autoscaling.minReplicas }}{{ end }}
{{- $least = add $least (int $count) }}
{{- end }}
{{- if and $reads (eq (int $least) 0) }}
{{- fail "taskgroup: keda.trigger backlog needs one TaskGroup, of any pool, that always runs, because TaskGroups know what is left to do: set keda.minReplicas: 1 for one pool" }}
{{- end }}
{{- end }}

{{- define "anabranch.checkWorker" -}}
{{- $own := .own }}
{{- $keda := $own.keda }}
{{- if $keda.enabled }}
{{- if $own.autoscaling.enabled }}
{{- fail (printf "%s: autoscaling.enabled and keda.enabled exclude each other: two autoscalers would undo each other's choices" .where) }}
{{- end }}
{{- if gt (int $keda.minReplicas) (int $keda.maxReplicas) }}
{{- fail (printf "%s: keda.minReplicas %d is above keda.maxReplicas %d" .where (int $keda.minReplicas) (int $keda.maxReplicas)) }}
{{- end }}
{{- if and (eq $keda.trigger "none") (not $keda.triggers) }}
{{- fail (printf "%s: keda.trigger is none, so keda.triggers must have at least one trigger" .where) }}
{{- end }}
{{- if eq $keda.trigger "backlog" }}
{{- if not .root.Values.gateway.enabled }}
{{- fail (printf "%s: keda.trigger backlog reads the gateway's backlog: set gateway.enabled, or keda.trigger: kafka" .where) }}
{{- end }}
{{- if and (not (include "anabranch.client" .root)) (not .root.Values.gateway.auth.disabled) }}
{{- fail (printf "%s: keda.trigger backlog needs an API key: set gateway.auth.client.existingSecret to a Secret with one of a viewer, or gateway.auth.generateKey" .where) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $file := $own.agentFiles }}
{{- if and (not (hasPrefix "/" $file)) (not $own.agentsConfigMap) }}
{{- fail (printf "%s: agentFiles %s is no absolute path: set agentsConfigMap to the ConfigMap that contains it" $.where $file) }}
{{- end }}
{{- end }}
{{- if $own.agentsConfigMap }}
{{- range concat .root.Values.extraEnv ($own.extraEnv | default list) }}
{{- if eq .name "PYTHONPATH" }}
{{- fail (printf "%s: extraEnv sets PYTHONPATH, and agentsConfigMap needs it: list the folders in pythonPath instead" $.where) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name := list "executors" "executor_commands" "executor_images" "executor_namespaces" "kubernetes_owner" }}
{{- if hasKey $own.executors.settings $name }}
{{- fail (printf "%s: executors.settings.%s has a value of its own beside it in executors, or is set by the chart: remove it" $.where $name) }}
{{- end }}
{{- end }}
{{- range $name, $program := $own.programs }}
{{- if and (kindIs "map" $program) $program.kind (not (has $program.kind $own.executors.enabled)) }}
{{- fail (printf "%s: the program %s is of kind %s: add it to executors.enabled" $.where $name $program.kind) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "anabranch.checkGateway" -}}
{{- $auth := .Values.gateway.auth }}
{{- $byKeys := or $auth.keys $auth.existingSecret $auth.generateKey }}
{{- $byTokens := or $auth.oidc.issuer $auth.oidcExistingSecret }}
{{- $elsewhere := or .Values.gateway.extraEnvFrom .Values.extraEnvFrom }}
{{- range concat .Values.extraEnv (.Values.gateway.extraEnv | default list) }}
{{- $elsewhere = or $elsewhere (has .name (list "ANABRANCH_GATEWAY_KEYS" "ANABRANCH_GATEWAY_OIDC_ISSUER" "ANABRANCH_GATEWAY_AUTH")) }}
{{- end }}
{{- range list "gateway_keys" "gateway_oidc_issuer" "gateway_auth" }}
{{- $elsewhere = or $elsewhere (hasKey $.Values.settings .) }}
{{- end }}
{{- if and $auth.disabled (or $byKeys $byTokens) }}
{{- fail "gateway.auth.disabled opens the gateway to everyone, but keys or an issuer are set: remove one of the two" }}
{{- end }}
{{- if not (or $auth.disabled $byKeys $byTokens $elsewhere) }}
{{- fail "gateway.enabled needs a way to know callers. Set one of gateway.auth: existingSecret (a Secret with a key file), keys (entries that `anabranch keys create` prints), generateKey: true (the chart makes one key), oidc.issuer and oidc.audience; or disabled: true, which makes everyone who reaches it an operator" }}
{{- end }}
{{- if and $auth.existingSecret (or $auth.keys $auth.generateKey) }}
{{- fail "gateway.auth.existingSecret has the whole key file: remove gateway.auth.keys and generateKey" }}
{{- end }}
{{- if and $auth.oidc.issuer (not $auth.oidc.audience) }}
{{- fail "gateway.auth.oidc.issuer needs gateway.auth.oidc.audience: without it, tokens for any other service would be accepted" }}
{{- end }}
{{- if and .Values.gateway.ingress.enabled (not .Values.gateway.ingress.hosts) }}
{{- fail "gateway.ingress.enabled needs gateway.ingress.hosts: [{host: anabranch.example.org}]" }}
{{- end }}
{{- if and .Values.gateway.httpRoute.enabled (not .Values.gateway.httpRoute.parentRefs) }}
{{- fail "gateway.httpRoute.enabled needs gateway.httpRoute.parentRefs: [{name: NAME-OF-THE-GATEWAY}]" }}
{{- end }}
{{- end }}

{{- define "anabranch.checkService" -}}
{{- $own := .own }}
{{- $drain := 25.0 }}
{{- if hasKey .root.Values.settings "drain_seconds" }}{{ $drain = include "anabranch.seconds" .root.Values.settings.drain_seconds | float64 }}{{ end }}
{{- if not (kindIs "invalid" $own.drainSeconds) }}{{ $drain = include "anabranch.seconds" $own.drainSeconds | float64 }}{{ end }}
{{- $stop := dig "preStop" "sleep" "seconds" 0 ($own.lifecycle | default dict) }}
{{- if not $own.lifecycle }}{{ $stop = $own.preStopSeconds }}{{ end }}
{{- $needed := addf $drain (float64 $stop) 5.0 }}
{{- if lt (float64 $own.terminationGracePeriodSeconds) $needed }}
{{- fail (printf "%s: terminationGracePeriodSeconds is %d, but draining takes up to %g s, preStop %d s and stopping 5 s: set at least %d, or a lower drainSeconds" .where (int $own.terminationGracePeriodSeconds) $drain (int $stop) (ceil $needed | int)) }}
{{- end }}
{{- if and $own.autoscaling.enabled (gt (int $own.autoscaling.minReplicas) (int $own.autoscaling.maxReplicas)) }}
{{- fail (printf "%s: autoscaling.minReplicas %d is above autoscaling.maxReplicas %d" .where (int $own.autoscaling.minReplicas) (int $own.autoscaling.maxReplicas)) }}
{{- end }}
{{- end }}
