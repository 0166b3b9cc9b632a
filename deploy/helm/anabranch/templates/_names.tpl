{{/* Cuts a name to the 63 characters that Kubernetes allows, with a hash of the whole, so that it stays unique */}}
{{- define "anabranch.fit" -}}
{{- if gt (len .) 63 }}{{ trunc 54 . | trimSuffix "-" }}-{{ sha256sum . | trunc 8 }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- define "anabranch.name" -}}
{{- include "anabranch.fit" (default .Chart.Name .Values.nameOverride) }}
{{- end }}

{{/* The uncut name of the installation, to which names of components are added before they are cut */}}
{{- define "anabranch.base" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name }}
{{- end }}
{{- end }}

{{- define "anabranch.fullname" -}}
{{- include "anabranch.fit" (include "anabranch.base" .) }}
{{- end }}

{{/* The name of a part; (list $ "agency") */}}
{{- define "anabranch.partName" -}}
{{- include "anabranch.fit" (printf "%s-%s" (include "anabranch.base" (index . 0)) (index . 1)) }}
{{- end }}

{{/* The component of a pool's workers: its name as part of a DNS label; a name that had to change ends with a hash */}}
{{- define "anabranch.poolComponent" -}}
{{- $plain := regexReplaceAll "[^a-z0-9-]" (lower .) "-" | trimSuffix "-" }}
{{- if or (ne $plain .) (gt (len $plain) 40) }}
{{- $plain = printf "%s-%s" (trunc 40 $plain | trimSuffix "-") (sha256sum . | trunc 6) }}
{{- end }}
{{- printf "taskgroup-%s" $plain }}
{{- end }}

{{- define "anabranch.selector" -}}
app.kubernetes.io/name: {{ include "anabranch.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of an object; (dict "root" $ "component" "agency" "extra" {}); "component" and "extra" may be absent */}}
{{- define "anabranch.labels" -}}
{{- $fixed := include "anabranch.selector" .root | fromYaml }}
{{- $_ := set $fixed "app.kubernetes.io/version" .root.Chart.AppVersion }}
{{- $_ := set $fixed "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $fixed "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") }}
{{- with .component }}{{ $_ := set $fixed "app.kubernetes.io/component" . }}{{ end }}
{{- merge $fixed (deepCopy (.extra | default dict)) (deepCopy .root.Values.commonLabels) | toYaml }}
{{- end }}

{{/* Metadata of an object; as anabranch.labels, with "name", and "annotations" and "namespace" if needed */}}
{{- define "anabranch.metadata" -}}
metadata:
  name: {{ .name }}
  namespace: {{ .namespace | default .root.Release.Namespace }}
  labels:
    {{- include "anabranch.labels" . | nindent 4 }}
  {{- with merge (deepCopy (.annotations | default dict)) (deepCopy .root.Values.commonAnnotations) }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "anabranch.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "anabranch.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The image; (dict "root" $ "own" {repository, tag, digest}) */}}
{{- define "anabranch.image" -}}
{{- $own := .own | default dict -}}
{{- $all := .root.Values.image -}}
{{- $repository := $own.repository | default $all.repository -}}
{{- $named := or $own.repository $own.tag -}}
{{- $digest := $own.digest | default (ternary "" $all.digest (not (empty $named))) -}}
{{- if $digest }}{{ printf "%s@%s" $repository $digest }}
{{- else }}{{ printf "%s:%s" $repository ($own.tag | default $all.tag | default .root.Chart.AppVersion) }}{{ end }}
{{- end }}

{{/* Puts the values of "over" over those of "base", which is changed: maps are merged, null removes a value */}}
{{- define "anabranch.overlay" -}}
{{- $base := .base }}
{{- range $key, $value := .over }}
{{- if kindIs "invalid" $value }}
{{- $_ := unset $base $key }}
{{- else if and (kindIs "map" $value) (kindIs "map" (get $base $key)) }}
{{- include "anabranch.overlay" (dict "base" (get $base $key) "over" $value) }}
{{- else }}
{{- $_ := set $base $key $value }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The pools of workers as YAML: {pools: [{name, component, own}]}. The first is taskgroup itself, the pool `default`;
the values of each further one are those of taskgroup, with its own over them.
*/}}
{{- define "anabranch.pools" -}}
{{- $default := omit .Values.taskgroup "pools" }}
{{- $pools := list (dict "name" "default" "component" "taskgroup" "own" $default) }}
{{- range .Values.taskgroup.pools }}
{{- $own := deepCopy $default }}
{{- include "anabranch.overlay" (dict "base" $own "over" (omit . "name")) }}
{{- $pools = append $pools (dict "name" .name "component" (include "anabranch.poolComponent" .name) "own" $own) }}
{{- end }}
{{- dict "pools" $pools | toYaml }}
{{- end }}
