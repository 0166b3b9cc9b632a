{{/*
The number of replicas as a line of the spec, or nothing if something else decides about it.
Without an autoscaler it is the value; null leaves it out. With one, the number of a Deployment that exists must not
change when the autoscaler takes over. Kubernetes resets a field to its default, 1, when the manager that alone owns
it leaves it out: so as long as Helm owns the field, the present number is set.
*/}}
{{- define "anabranch.replicas" -}}
{{- if not .scaled }}
{{- if not (kindIs "invalid" .own.replicas) }}
replicas: {{ int .own.replicas }}
{{- end }}
{{- else }}
{{- $live := lookup "apps/v1" "Deployment" .root.Release.Namespace .name }}
{{- if $live }}
{{- $owned := false }}
{{- range $live.metadata.managedFields }}
{{- $owned = or $owned (and (eq .manager "helm") (hasKey (dig "fieldsV1" "f:spec" dict .) "f:replicas")) }}
{{- $owned = or $owned (and (eq .manager "helm") (eq .operation "Update")) }}
{{- end }}
{{- if $owned }}
replicas: {{ int (dig "spec" "replicas" 1 $live) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
One Deployment and, if enabled, its disruption budget and autoscalers.
  root, component, own (its values), args
  env, mounts, volumes, ports: YAML of further entries; may be absent
  account, token: the service account, and whether pods get its token
  pool: the name of a pool of workers
  annotations: of the pods
*/}}
{{- define "anabranch.deployment" -}}
{{- $root := .root -}}
{{- $own := .own -}}
{{- $name := include "anabranch.partName" (list $root .component) -}}
{{- $keda := $own.keda | default dict -}}
{{- $labels := dict -}}
{{- with .pool }}{{ $_ := set $labels "anabranch/pool" . }}{{ end -}}
apiVersion: apps/v1
kind: Deployment
{{ include "anabranch.metadata" (dict "root" $root "name" $name "component" .component "annotations" $own.annotations "extra" (merge (deepCopy $labels) (deepCopy ($own.labels | default dict)))) }}
spec:
  {{- include "anabranch.replicas" (dict "root" $root "own" $own "name" $name "scaled" (or $own.autoscaling.enabled $keda.enabled)) | nindent 2 }}
  revisionHistoryLimit: {{ int (ternary $own.revisionHistoryLimit $root.Values.revisionHistoryLimit (hasKey $own "revisionHistoryLimit")) }}
  {{- with $own.minReadySeconds }}
  minReadySeconds: {{ int . }}
  {{- end }}
  {{- with $own.strategy }}
  strategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "anabranch.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
  template:
    metadata:
      {{- include "anabranch.podMetadata" (dict "root" $root "own" $own "component" .component "annotations" .annotations "labels" $labels) | nindent 6 }}
    spec:
      {{- include "anabranch.podSpec" (dict "root" $root "own" $own "account" .account "token" .token) | nindent 6 }}
      terminationGracePeriodSeconds: {{ int $own.terminationGracePeriodSeconds }}
      {{- if $own.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- toYaml $own.topologySpreadConstraints | nindent 8 }}
      {{- else if $root.Values.topologySpread.enabled }}
      topologySpreadConstraints:
        - maxSkew: {{ int $root.Values.topologySpread.maxSkew }}
          topologyKey: {{ $root.Values.topologySpread.topologyKey }}
          whenUnsatisfiable: {{ $root.Values.topologySpread.whenUnsatisfiable }}
          labelSelector:
            matchLabels:
              {{- include "anabranch.selector" $root | nindent 14 }}
              app.kubernetes.io/component: {{ .component }}
          matchLabelKeys: [pod-template-hash]
      {{- end }}
      {{- with $own.initContainers }}
      initContainers:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .container }}
          image: {{ include "anabranch.image" (dict "root" $root "own" $own.image) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          {{- with $own.command }}
          command:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          args:
            {{- toYaml (concat .args ($own.extraArgs | default list)) | nindent 12 }}
          env:
            - name: ANABRANCH_HEALTH_PORT
              value: {{ include "anabranch.scalar" $root.Values.healthPort | quote }}
            {{- if not (kindIs "invalid" $own.drainSeconds) }}
            - name: ANABRANCH_DRAIN_SECONDS
              value: {{ include "anabranch.scalar" $own.drainSeconds | quote }}
            {{- end }}
            {{- with $root.Values.telemetry.otlpEndpoint }}
            - name: OTEL_EXPORTER_OTLP_ENDPOINT
              value: {{ . | quote }}
            {{- end }}
            {{- range $variable, $value := $root.Values.telemetry.variables }}
            - name: {{ $variable }}
              value: {{ include "anabranch.scalar" $value | quote }}
            {{- end }}
            {{- with .env | default "" | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with include "anabranch.sharedEnv" (dict "root" $root "own" $own) | trim }}
            {{- . | nindent 12 }}
            {{- end }}
          envFrom:
            {{- include "anabranch.sharedEnvFrom" (dict "root" $root "own" $own) | trim | nindent 12 }}
            {{- with .envFrom | default "" | trim }}
            {{- . | nindent 12 }}
            {{- end }}
          ports:
            - name: health
              containerPort: {{ int $root.Values.healthPort }}
              protocol: TCP
            {{- with .ports | default "" | trim }}
            {{- . | nindent 12 }}
            {{- end }}
          startupProbe:
            {{- include "anabranch.probe" (dict "own" $own.startupProbe "path" "/livez" "timing" $root.Values.probes.startup) | nindent 12 }}
          livenessProbe:
            {{- include "anabranch.probe" (dict "own" $own.livenessProbe "path" "/livez" "timing" $root.Values.probes.liveness) | nindent 12 }}
          readinessProbe:
            {{- include "anabranch.probe" (dict "own" $own.readinessProbe "path" "/readyz" "timing" $root.Values.probes.readiness) | nindent 12 }}
          {{- if $own.lifecycle }}
          lifecycle:
            {{- toYaml $own.lifecycle | nindent 12 }}
          {{- else if gt (int $own.preStopSeconds) 0 }}
          lifecycle:
            preStop:
              sleep:
                seconds: {{ int $own.preStopSeconds }}
          {{- end }}
          resources:
            {{- toYaml $own.resources | nindent 12 }}
          securityContext:
            {{- toYaml ($own.securityContext | default $root.Values.securityContext) | nindent 12 }}
          volumeMounts:
            {{- include "anabranch.mounts" (dict "root" $root "own" $own) | trim | nindent 12 }}
            {{- with .mounts | default "" | trim }}
            {{- . | nindent 12 }}
            {{- end }}
        {{- with $own.sidecars }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      volumes:
        {{- include "anabranch.volumes" (dict "root" $root "own" $own) | trim | nindent 8 }}
        {{- with .volumes | default "" | trim }}
        {{- . | nindent 8 }}
        {{- end }}
{{- if $own.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
{{ include "anabranch.metadata" (dict "root" $root "name" $name "component" .component "extra" $labels) }}
spec:
  maxUnavailable: {{ include "anabranch.scalar" $own.podDisruptionBudget.maxUnavailable }}
  # A pod that is not ready protects nothing, and must not keep a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "anabranch.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
{{- end }}
{{- if $own.autoscaling.enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
{{ include "anabranch.metadata" (dict "root" $root "name" $name "component" .component "extra" $labels) }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ $name }}
  minReplicas: {{ int $own.autoscaling.minReplicas }}
  maxReplicas: {{ int $own.autoscaling.maxReplicas }}
  metrics:
    {{- if $own.autoscaling.metrics }}
    {{- toYaml $own.autoscaling.metrics | nindent 4 }}
    {{- else }}
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ int $own.autoscaling.targetCPUUtilizationPercentage }}
    {{- end }}
  {{- with $own.autoscaling.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- if $keda.enabled }}
---
{{ include "anabranch.keda" (dict "root" $root "own" $own "name" $name "component" .component "labels" $labels "pool" .pool) }}
{{- end }}
{{- end }}
