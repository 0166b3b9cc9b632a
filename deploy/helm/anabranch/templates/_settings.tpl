{{/* A Kafka property as the variable that sets it: sasl.password -> ANABRANCH_KAFKA_SASL_PASSWORD */}}
{{- define "anabranch.kafkaVariable" -}}
ANABRANCH_KAFKA_{{ . | replace "." "_" | upper }}
{{- end }}

{{/* A value as text: a large integer without an exponent, a list with commas */}}
{{- define "anabranch.scalar" -}}
{{- if kindIs "slice" . }}
{{- $texts := list }}
{{- range . }}{{ $texts = append $texts (include "anabranch.scalar" .) }}{{ end }}
{{- join "," $texts }}
{{- else if kindIs "map" . }}{{ toJson . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) }}{{ . | int64 }}
{{- else }}{{ . }}{{ end }}
{{- end }}

{{/* A duration in seconds: 25, "25", "250ms", "1h30m" */}}
{{- define "anabranch.seconds" -}}
{{- $text := include "anabranch.scalar" . | trim }}
{{- if regexMatch "^[0-9.]+$" $text }}{{ $text }}
{{- else }}
{{- $sum := 0.0 }}
{{- range regexFindAll "[0-9.]+(ms|s|m|h|d)" $text -1 }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- $factor := get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0) $unit }}
{{- $sum = addf $sum (mulf (trimSuffix $unit . | float64) $factor) }}
{{- end }}
{{- $sum }}
{{- end }}
{{- end }}

{{- define "anabranch.brokers" -}}
{{- if .Values.trial.enabled }}{{ include "anabranch.partName" (list . "trial-kafka") }}:9092
{{- else }}{{ .Values.kafka.brokers }}{{ end }}
{{- end }}

{{- define "anabranch.redisUrl" -}}
{{- if .Values.trial.enabled }}redis://{{ include "anabranch.partName" (list . "trial-valkey") }}:6379/0
{{- else }}{{ .Values.redis.url }}{{ end }}
{{- end }}

{{/* Sources of every container's settings */}}
{{- define "anabranch.envFrom" -}}
- configMapRef:
    name: {{ include "anabranch.fullname" . }}
{{- if include "anabranch.secretData" . | trim }}
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

{{/* Variables from keys of existing Secrets; {VARIABLE: {name, key}} */}}
{{- define "anabranch.secretEnv" -}}
{{- range $variable, $secret := . }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $secret.key }}
{{- end }}
{{- end }}

{{- define "anabranch.configData" -}}
ANABRANCH_BROKERS: {{ include "anabranch.brokers" . | quote }}
ANABRANCH_PREFIX: {{ .Values.prefix | quote }}
{{- range $name, $value := .Values.kafka.properties }}
{{ include "anabranch.kafkaVariable" $name }}: {{ include "anabranch.scalar" $value | quote }}
{{- end }}
{{- range $topic, $count := .Values.topics.partitions }}
ANABRANCH_PARTITIONS_{{ $topic | upper }}: {{ include "anabranch.scalar" $count | quote }}
{{- end }}
{{- with .Values.topics.replicationFactor }}
ANABRANCH_REPLICATION_FACTOR: {{ include "anabranch.scalar" . | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
ANABRANCH_{{ $name | upper }}: {{ include "anabranch.scalar" $value | quote }}
{{- end }}
{{- end }}

{{- define "anabranch.secretData" -}}
{{- if not .Values.redis.existingSecret }}
ANABRANCH_REDIS_URL: {{ include "anabranch.redisUrl" . | quote }}
{{- end }}
{{- range $name, $value := .Values.kafka.secretProperties }}
{{ include "anabranch.kafkaVariable" $name }}: {{ include "anabranch.scalar" $value | quote }}
{{- end }}
{{- end }}

{{/* A checksum of the settings, so that pods restart when the settings change */}}
{{- define "anabranch.settingsChecksum" -}}
{{- printf "%s\n%s" (include "anabranch.configData" .) (include "anabranch.secretData" .) | sha256sum }}
{{- end }}
