{{- define "anabranch.gatewayPort" -}}
{{- include "anabranch.scalar" (.Values.gateway.service.port | default .Values.gateway.port) }}
{{- end }}

{{/* The Secret and key of an API key as text, as YAML {name, key}; nothing if there is none */}}
{{- define "anabranch.client" -}}
{{- $auth := .Values.gateway.auth }}
{{- if $auth.client.existingSecret }}
{{- dict "name" $auth.client.existingSecret "key" $auth.client.existingSecretKey | toYaml }}
{{- else if $auth.generateKey }}
{{- dict "name" (include "anabranch.partName" (list . "gateway-keys")) "key" "api-key" | toYaml }}
{{- end }}
{{- end }}

{{/* The Secret with the file of keys; nothing if there is none */}}
{{- define "anabranch.keysSecret" -}}
{{- $auth := .Values.gateway.auth }}
{{- if $auth.existingSecret }}{{ $auth.existingSecret }}
{{- else if or $auth.keys $auth.generateKey }}{{ include "anabranch.partName" (list . "gateway-keys") }}{{ end }}
{{- end }}

{{/* Names by which the gateway is called: of the Service, the Ingress and the HTTPRoute; as YAML {hosts: []} */}}
{{- define "anabranch.gatewayHosts" -}}
{{- $service := include "anabranch.partName" (list . "gateway") }}
{{- $namespace := .Release.Namespace }}
{{- $hosts := list $service (printf "%s.%s" $service $namespace) (printf "%s.%s.svc" $service $namespace) (printf "%s.%s.svc.cluster.local" $service $namespace) }}
{{- if .Values.gateway.ingress.enabled }}
{{- range .Values.gateway.ingress.hosts }}{{ with .host }}{{ $hosts = append $hosts . }}{{ end }}{{ end }}
{{- end }}
{{- if .Values.gateway.httpRoute.enabled }}
{{- $hosts = concat $hosts .Values.gateway.httpRoute.hostnames }}
{{- end }}
{{- dict "hosts" (uniq $hosts) | toYaml }}
{{- end }}
