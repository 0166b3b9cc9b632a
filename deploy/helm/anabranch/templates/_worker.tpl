{{/* Variables of a pool's workers; (dict "root" $ "pool" {name, component, own}) */}}
{{- define "anabranch.workerEnv" -}}
{{- $own := .pool.own }}
{{- $env := list }}
{{- with $own.agents }}
{{- $env = append $env (dict "name" "ANABRANCH_AGENTS" "value" (join "," .)) }}
{{- end }}
{{- $files := list }}
{{- range $own.agentFiles }}
{{- $files = append $files (ternary . (printf "/etc/anabranch/agents/%s" .) (hasPrefix "/" .)) }}
{{- end }}
{{- if $own.programs }}{{ $files = append $files "/etc/anabranch/programs/agents.yaml" }}{{ end }}
{{- with $files }}
{{- $env = append $env (dict "name" "ANABRANCH_AGENT_FILES" "value" (join "," .)) }}
{{- end }}
{{- if $own.agentsConfigMap }}
{{- $env = append $env (dict "name" "PYTHONPATH" "value" (join ":" (prepend $own.pythonPath "/etc/anabranch/agents"))) }}
{{- end }}
{{- with $own.concurrency }}
{{- $env = append $env (dict "name" "ANABRANCH_CONCURRENCY" "value" (include "anabranch.scalar" .)) }}
{{- end }}
{{- with $own.offers }}
{{- $env = append $env (dict "name" "ANABRANCH_OFFERS" "value" .) }}
{{- end }}
{{- if ne .pool.name "default" }}
{{- $env = append $env (dict "name" "ANABRANCH_POOL" "value" .pool.name) }}
{{- end }}
{{- with $own.executors.enabled }}
{{- $env = append $env (dict "name" "ANABRANCH_EXECUTORS" "value" (join "," .)) }}
{{- end }}
{{- $kubernetes := $own.executors.kubernetes }}
{{- $lists := dict "EXECUTOR_COMMANDS" $own.executors.commands "EXECUTOR_IMAGES" $own.executors.images }}
{{- if has "kubernetes" $own.executors.enabled }}
{{- $_ := set $lists "EXECUTOR_NAMESPACES" $kubernetes.namespaces }}
{{- $_ := set $lists "KUBERNETES_SERVICE_ACCOUNTS" $kubernetes.serviceAccounts }}
{{- $owner := printf "apps/v1/Deployment/%s" (include "anabranch.partName" (list .root .pool.component)) }}
{{- $env = append $env (dict "name" "ANABRANCH_KUBERNETES_OWNER" "value" $owner) }}
{{- with $kubernetes.helperImage }}
{{- $env = append $env (dict "name" "ANABRANCH_KUBERNETES_HELPER_IMAGE" "value" .) }}
{{- end }}
{{- end }}
{{- range $variable, $list := $lists }}
{{- with $list }}
{{- $env = append $env (dict "name" (printf "ANABRANCH_%s" $variable) "value" (join "," .)) }}
{{- end }}
{{- end }}
{{- range $name, $value := $own.executors.settings }}
{{- $env = append $env (dict "name" (printf "ANABRANCH_%s" (upper $name)) "value" (include "anabranch.scalar" $value)) }}
{{- end }}
{{- if $env }}{{ toYaml $env }}{{ end }}
{{- end }}

{{/* One pool: its Deployment, its programs, and what its executor of Jobs needs */}}
{{- define "anabranch.worker" -}}
{{- $root := .root -}}
{{- $own := .pool.own -}}
{{- $name := include "anabranch.partName" (list $root .pool.component) -}}
{{- $runsJobs := has "kubernetes" $own.executors.enabled -}}
{{- $with := dict "root" $root "component" .pool.component "container" "taskgroup" "own" $own "pool" .pool.name "args" (list "taskgroup") -}}
{{- $_ := set $with "env" (include "anabranch.workerEnv" .) -}}
{{- $volumes := list -}}
{{- $mounts := list -}}
{{- with $own.agentsConfigMap -}}
{{- $volumes = append $volumes (dict "name" "agents" "configMap" (dict "name" .)) -}}
{{- $mounts = append $mounts (dict "name" "agents" "mountPath" "/etc/anabranch/agents" "readOnly" true) -}}
{{- end -}}
{{- if $own.programs -}}
{{- $volumes = append $volumes (dict "name" "programs" "configMap" (dict "name" (include "anabranch.partName" (list $root (printf "%s-programs" .pool.component))))) -}}
{{- $mounts = append $mounts (dict "name" "programs" "mountPath" "/etc/anabranch/programs" "readOnly" true) -}}
{{- $_ := set $with "annotations" (dict "checksum/programs" (toYaml $own.programs | sha256sum)) -}}
{{- end -}}
{{- if $volumes -}}
{{- $_ := set $with "volumes" (toYaml $volumes) -}}
{{- $_ := set $with "mounts" (toYaml $mounts) -}}
{{- end -}}
{{- if $runsJobs -}}
{{- $_ := set $with "token" true -}}
{{- $_ := set $with "account" ($own.serviceAccountName | default $name) -}}
{{- end -}}
{{ include "anabranch.deployment" $with }}
{{- if $own.programs }}
---
apiVersion: v1
kind: ConfigMap
{{ include "anabranch.metadata" (dict "root" $root "name" (include "anabranch.partName" (list $root (printf "%s-programs" .pool.component))) "component" .pool.component) }}
data:
  agents.yaml: {{ toYaml $own.programs | quote }}
{{- end }}
{{- if $runsJobs }}
{{- if not $own.serviceAccountName }}
---
apiVersion: v1
kind: ServiceAccount
{{ include "anabranch.metadata" (dict "root" $root "name" $name "component" .pool.component "annotations" $own.executors.kubernetes.serviceAccountAnnotations) }}
automountServiceAccountToken: false
{{- end }}
{{- if $own.executors.kubernetes.createRole }}
{{- $here := $root.Release.Namespace }}
{{- $component := .pool.component }}
{{- range prepend $own.executors.kubernetes.namespaces $here | uniq }}
{{- $role := ternary $name (include "anabranch.fit" (printf "%s-%s" $here $name)) (eq . $here) }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
{{ include "anabranch.metadata" (dict "root" $root "name" $role "namespace" . "component" $component) }}
rules:
  {{- include "anabranch.jobRules" $root | nindent 2 }}
  {{- if eq . $here }}
  # The Deployment owns the Jobs of its namespace, so that they are removed with it.
  - apiGroups: [apps]
    resources: [deployments]
    resourceNames: [{{ $name }}]
    verbs: [get]
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
{{ include "anabranch.metadata" (dict "root" $root "name" $role "namespace" . "component" $component) }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $role }}
subjects:
  - kind: ServiceAccount
    name: {{ $own.serviceAccountName | default $name }}
    namespace: {{ $here }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the executor of Jobs may do in a namespace: docs/programs.md says what for */}}
{{- define "anabranch.jobRules" -}}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, get, list, watch, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
- apiGroups: [""]
  resources: [events]
  verbs: [list, watch]
{{- end }}
