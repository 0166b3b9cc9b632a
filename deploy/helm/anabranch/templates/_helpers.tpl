{{- define "anabranch.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* At most 40 characters: names of components and a hash follow, and Kubernetes allows 63 */}}
{{- define "anabranch.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "anabranch.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "anabranch.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "anabranch.selector" -}}
app.kubernetes.io/name: {{ include "anabranch.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "anabranch.labels" -}}
{{ include "anabranch.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "anabranch.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "anabranch.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* A Kafka property as the variable that sets it: sasl.password -> ANABRANCH_KAFKA_SASL_PASSWORD */}}
{{- define "anabranch.kafkaVariable" -}}
ANABRANCH_KAFKA_{{ . | replace "." "_" | upper }}
{{- end }}

{{/* A value as text: a large integer without an exponent, a fraction unchanged */}}
{{- define "anabranch.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ . | int64 }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* The image; (dict "root" $ "override" {repository, tag}) */}}
{{- define "anabranch.image" -}}
{{- $own := .override | default dict -}}
{{- $repository := $own.repository | default .root.Values.image.repository -}}
{{- $tag := $own.tag | default .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{ printf "%s:%s" $repository $tag }}
{{- end }}

{{/* Sources of every container's settings */}}
{{- define "anabranch.envFrom" -}}
- configMapRef:
    name: {{ include "anabranch.fullname" . }}
{{- if include "anabranch.secretData" . }}
- secretRef:
    name: {{ include "anabranch.fullname" . }}
{{- end }}
{{- with .Values.kafka.existingSecret }}
- secretRef:
    name: {{ . }}
{{- end }}
{{- end }}

{{- define "anabranch.redisEnv" -}}
{{- if .Values.redis.existingSecret }}
- name: ANABRANCH_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.existingSecret }}
      key: {{ .Values.redis.existingSecretKey }}
{{- end }}
{{- end }}

{{- define "anabranch.configData" -}}
ANABRANCH_BROKERS: {{ .Values.kafka.brokers | quote }}
ANABRANCH_PREFIX: {{ .Values.prefix | quote }}
{{- range $name, $value := .Values.kafka.properties }}
{{ include "anabranch.kafkaVariable" $name }}: {{ include "anabranch.scalar" $value | quote }}
{{- end }}
{{- range $topic, $count := .Values.topics.partitions }}
ANABRANCH_PARTITIONS_{{ $topic | upper }}: {{ $count | int | toString | quote }}
{{- end }}
{{- with .Values.topics.replicationFactor }}
ANABRANCH_REPLICATION_FACTOR: {{ . | int | toString | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
ANABRANCH_{{ $name | upper }}: {{ include "anabranch.scalar" $value | quote }}
{{- end }}
{{- end }}

{{- define "anabranch.secretData" -}}
{{- if not .Values.redis.existingSecret }}
ANABRANCH_REDIS_URL: {{ .Values.redis.url | quote }}
{{- end }}
{{- range $name, $value := .Values.kafka.secretProperties }}
{{ include "anabranch.kafkaVariable" $name }}: {{ include "anabranch.scalar" $value | quote }}
{{- end }}
{{- end }}

{{/* A checksum of the settings, so that pods restart when the settings change */}}
{{- define "anabranch.settingsChecksum" -}}
{{- printf "%s\n%s" (include "anabranch.configData" .) (include "anabranch.secretData" .) | sha256sum }}
{{- end }}
