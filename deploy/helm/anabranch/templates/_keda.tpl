{{/* The ScaledObject of a pool, and the TriggerAuthentication with the gateway's key */}}
{{- define "anabranch.keda" -}}
{{- $root := .root -}}
{{- $keda := .own.keda -}}
{{- $lane := ternary "" (printf ".%s" .pool) (eq .pool "default") -}}
{{- $client := include "anabranch.client" $root | fromYaml -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
{{ include "anabranch.metadata" (dict "root" $root "name" .name "component" .component "extra" .labels) }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ .name }}
  minReplicaCount: {{ int $keda.minReplicas }}
  maxReplicaCount: {{ int $keda.maxReplicas }}
  pollingInterval: {{ int $keda.pollingInterval }}
  cooldownPeriod: {{ int $keda.cooldownPeriod }}
  {{- with $keda.fallback }}
  fallback:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $keda.behavior }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        {{- toYaml . | nindent 8 }}
  {{- end }}
  triggers:
    {{- if eq $keda.trigger "backlog" }}
    - type: metrics-api
      name: backlog
      metricType: AverageValue
      metadata:
        url: {{ printf "http://%s.%s.svc:%s/v1/backlog?pool=%s&member_seconds=%s" (include "anabranch.partName" (list $root "gateway")) $root.Release.Namespace (include "anabranch.gatewayPort" $root) .pool (include "anabranch.scalar" $keda.memberSeconds) | quote }}
        format: json
        valueLocation: worker_seconds
        activationTargetValue: "0"
        targetValue: {{ include "anabranch.scalar" $keda.targetSeconds | quote }}
        {{- if $client }}
        authMode: bearer
      authenticationRef:
        name: {{ .name }}
        {{- end }}
    {{- else if eq $keda.trigger "kafka" }}
    - type: kafka
      name: offers
      metricType: AverageValue
      metadata:
        {{- $metadata := dict "bootstrapServers" (include "anabranch.brokers" $root) "consumerGroup" (printf "%staskgroup-tasks%s" $root.Values.prefix $lane) "topic" (printf "%stasks%s" $root.Values.prefix $lane) "lagThreshold" (include "anabranch.scalar" $keda.targetLag) }}
        {{- merge (deepCopy $keda.kafkaMetadata) $metadata | toYaml | nindent 8 }}
      {{- with $keda.kafkaAuthentication }}
      authenticationRef:
        name: {{ . }}
      {{- end }}
    {{- end }}
    {{- with $keda.triggers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- if and (eq $keda.trigger "backlog") $client }}
---
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
{{ include "anabranch.metadata" (dict "root" $root "name" .name "component" .component "extra" .labels) }}
spec:
  secretTargetRef:
    - parameter: token
      name: {{ $client.name }}
      key: {{ $client.key }}
{{- end }}
{{- end }}
