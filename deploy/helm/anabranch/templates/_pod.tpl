{{/* A service's value, else that of all pods; (list $ $own "nodeSelector") */}}
{{- define "anabranch.inherited" -}}
{{- $value := get (index . 1) (index . 2) | default (get (index . 0).Values (index . 2)) }}
{{- if $value }}{{ dict "value" $value | toYaml }}{{ end }}
{{- end }}

{{/*
Metadata of a pod's template: labels, annotations, and a checksum of the settings.
(dict "root" $ "own" {...} "component" "agency" "annotations" {} "labels" {})
*/}}
{{- define "anabranch.podMetadata" -}}
{{- $root := .root }}
{{- $annotations := dict "checksum/settings" (include "anabranch.settingsChecksum" $root) }}
{{- if $root.Values.telemetry.scrapeAnnotations }}
{{- $_ := set $annotations "prometheus.io/scrape" "true" }}
{{- $_ := set $annotations "prometheus.io/port" (include "anabranch.scalar" $root.Values.healthPort) }}
{{- $_ := set $annotations "prometheus.io/path" "/metrics" }}
{{- end }}
{{- $annotations = merge $annotations (.annotations | default dict) (deepCopy (.own.podAnnotations | default dict)) (deepCopy $root.Values.podAnnotations) (deepCopy $root.Values.commonAnnotations) }}
{{- $extra := merge (deepCopy (.labels | default dict)) (deepCopy (.own.podLabels | default dict)) (deepCopy $root.Values.podLabels) }}
annotations:
  {{- toYaml $annotations | nindent 2 }}
labels:
  {{- include "anabranch.labels" (dict "root" $root "component" .component "extra" $extra) | nindent 2 }}
{{- end }}

{{/*
What every pod's spec has beside its containers and volumes; (dict "root" $ "own" {...} "account" "" "token" false)
*/}}
{{- define "anabranch.podSpec" -}}
{{- $root := .root }}
{{- $own := .own }}
serviceAccountName: {{ .account | default $own.serviceAccountName | default (include "anabranch.serviceAccountName" $root) }}
automountServiceAccountToken: {{ .token | default false }}
# Variables that Kubernetes derives from Services could be mistaken for settings.
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml ($own.podSecurityContext | default $root.Values.podSecurityContext) | nindent 2 }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName" "hostAliases" "dnsPolicy" "dnsConfig" }}
{{- with include "anabranch.inherited" (list $root $own $key) | fromYaml }}
{{- dict $key .value | toYaml | nindent 0 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Environment that all containers of the image share; (dict "root" $ "own" {...}) */}}
{{- define "anabranch.sharedEnv" -}}
{{- include "anabranch.redisEnv" .root }}
{{- include "anabranch.secretEnv" (merge (deepCopy (.own.secretEnv | default dict)) (deepCopy .root.Values.secretEnv)) }}
{{- with concat .root.Values.extraEnv (.own.extraEnv | default list) }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "anabranch.sharedEnvFrom" -}}
{{ include "anabranch.envFrom" .root }}
{{- with concat .root.Values.extraEnvFrom (.own.extraEnvFrom | default list) }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "anabranch.mounts" -}}
- {name: scratch, mountPath: /tmp, subPath: tmp}
- {name: scratch, mountPath: /var/lib/anabranch, subPath: work}
{{- with concat .root.Values.extraVolumeMounts (.own.extraVolumeMounts | default list) }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "anabranch.volumes" -}}
{{- $limit := .own.scratchSizeLimit | default .root.Values.scratchSizeLimit }}
- name: scratch
  emptyDir: {{ if $limit }}{sizeLimit: {{ $limit }}}{{ else }}{}{{ end }}
{{- with concat .root.Values.extraVolumes (.own.extraVolumes | default list) }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A probe: its path and port, and its timing: that of the service over that of all services */}}
{{- define "anabranch.probe" -}}
{{- $probe := deepCopy (.own | default dict) }}
{{- $default := merge (dict "httpGet" (dict "path" .path "port" "health")) (deepCopy .timing) }}
{{- if or (hasKey $probe "exec") (hasKey $probe "tcpSocket") (hasKey $probe "grpc") }}{{ $default = omit $default "httpGet" }}{{ end }}
{{- merge $probe $default | toYaml }}
{{- end }}
