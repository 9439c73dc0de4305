{{- define "collector.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* Short enough for `-clickhouse` behind it, and a StatefulSet's revision behind that, in a label (63). */}}
{{- define "collector.fullname" -}}
{{- $name := include "collector.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "collector.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What a selector goes by: never changes in the life of a release. */}}
{{- define "collector.selector" -}}
app.kubernetes.io/name: {{ include "collector.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "collector.commonLabels" -}}
helm.sh/chart: {{ include "collector.chart" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: pulsestream
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "collector.labels" -}}
{{ include "collector.selector" . }}
app.kubernetes.io/component: collector
{{ include "collector.commonLabels" . }}
{{- end }}

{{- define "collector.clickhouseName" -}}
{{- printf "%s-clickhouse" (include "collector.fullname" .) }}
{{- end }}

{{- define "collector.clickhouseSelector" -}}
app.kubernetes.io/name: {{ include "collector.name" . }}-clickhouse
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "collector.clickhouseLabels" -}}
{{ include "collector.clickhouseSelector" . }}
app.kubernetes.io/component: clickhouse
{{ include "collector.commonLabels" . }}
{{- end }}

{{- define "collector.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "collector.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* Of an image: (dict "image" … "tag" what an empty tag means). */}}
{{- define "collector.image" -}}
{{- $repository := .image.repository }}
{{- if .image.registry }}{{ $repository = printf "%s/%s" (trimSuffix "/" .image.registry) .image.repository }}{{ end }}
{{- if .image.digest }}
{{- printf "%s@%s" $repository .image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (.image.tag | default .tag) }}
{{- end }}
{{- end }}

{{- define "collector.scheme" -}}
{{- ternary "https" "http" (not (empty .Values.tls.secretName)) }}
{{- end }}

{{/* Where it is found in the cluster; certificates are for that name. */}}
{{- define "collector.url" -}}
{{- printf "%s://%s.%s.svc:%d" (include "collector.scheme" .) (include "collector.fullname" .) .Release.Namespace (int .Values.service.port) }}
{{- end }}

{{/* (list $ "/path") */}}
{{- define "collector.probe" -}}
httpGet: {path: {{ index . 1 }}, port: http, scheme: {{ include "collector.scheme" (index . 0) | upper }}}
{{- end }}

{{- define "collector.shutdownSeconds" -}}
{{- $server := .Values.config.server | default dict }}
{{- $workers := gt (int ($server.workers | default 1)) 1 | ternary 5 0 }}
{{- add (ceil ($server.shutdown_timeout_s | default 20)) $workers }}
{{- end }}

{{- define "collector.graceSeconds" -}}
{{- $needed := add .Values.preStopSeconds (include "collector.shutdownSeconds" .) }}
{{- $given := .Values.terminationGracePeriodSeconds }}
{{- if kindIs "invalid" $given }}
{{- add $needed 10 }}
{{- else if lt (int $given) (int $needed) }}
{{- fail (printf "terminationGracePeriodSeconds is %d, but the collector may need %d (preStopSeconds, and config.server.shutdown_timeout_s to finish what is under way); raise it, or take it out" (int $given) (int $needed)) }}
{{- else }}
{{- int $given }}
{{- end }}
{{- end }}

{{- define "collector.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.security }}
{{- if not (kindIs "invalid" .runAsUser) }}
runAsUser: {{ int .runAsUser }}
{{- end }}
{{- if not (kindIs "invalid" .runAsGroup) }}
runAsGroup: {{ int .runAsGroup }}
{{- end }}
{{- if not (kindIs "invalid" .fsGroup) }}
fsGroup: {{ int .fsGroup }}
# A store has many files: their group is changed once, not at every start.
fsGroupChangePolicy: OnRootMismatch
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "collector.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Before a release is installed or upgraded; the weight orders hooks. */}}
{{- define "collector.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* What cannot work, said before anything is made. */}}
{{- define "collector.checks" -}}
{{- $server := .Values.config.server | default dict }}
{{- if eq .Values.store.mode "embedded" }}
{{- if and (ne (int .Values.replicaCount) 1) (not .Values.autoscaling.enabled) }}
{{- fail (printf "replicaCount is %d, but an embedded store belongs to exactly one collector; set it to 1, or store.mode to external or bundled" (int .Values.replicaCount)) }}
{{- end }}
{{- if .Values.autoscaling.enabled }}
{{- fail "autoscaling.enabled: an embedded store belongs to exactly one collector; switch it off, or set store.mode to external or bundled" }}
{{- end }}
{{- if .Values.podDisruptionBudget.enabled }}
{{- fail "podDisruptionBudget.enabled: with an embedded store there is one collector, and it could never be moved to another node; switch it off, or set store.mode to external or bundled" }}
{{- end }}
{{- if gt (int ($server.workers | default 1)) 1 }}
{{- fail "config.server.workers: an embedded store is one process; set it to 1, or store.mode to external or bundled" }}
{{- end }}
{{- else if eq .Values.store.mode "external" }}
{{- if not .Values.store.external.url }}
{{- fail "store.external.url: store.mode is external; name the server, for instance http://clickhouse:8123" }}
{{- end }}
{{- else if not (include "collector.secretKey" (list . "clickhousePassword")) }}
{{- fail "secrets.clickhousePassword (or existingSecret.clickhousePassword): the bundled ClickHouse needs a password for its user; for instance `openssl rand -hex 24`" }}
{{- end }}
{{- if and (eq .Values.store.mode "bundled") (regexMatch "[<>&]" .Values.secrets.clickhousePassword) }}
{{- fail "secrets.clickhousePassword: has one of < > &, which the image of ClickHouse writes into its configuration as they stand; take them out" }}
{{- end }}
{{- if and .Values.schemaJob.enabled (ne .Values.store.mode "external") }}
{{- fail "schemaJob.enabled: only for store.mode external; an embedded store belongs to its collector, and a bundled one is not there before the first install. Collectors apply the schema at their start" }}
{{- end }}
{{- if .Values.existingSecret.name }}
{{- range $name, $value := .Values.secrets }}
{{- if $value }}{{ fail (printf "secrets.%s: existingSecret.name is set, so nothing here is used; put it into that Secret and name its key in existingSecret.%s" $name $name) }}{{ end }}
{{- end }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.parentRefs: name the gateway, for instance [{name: public}]" }}
{{- end }}
{{- if and .Values.tls.clientCaKey (not .Values.tls.secretName) }}
{{- fail "tls.clientCaKey is set, but no tls.secretName; name the Secret with the collector's certificate" }}
{{- end }}
{{- if and .Values.tenants .Values.tenantsExistingSecret }}
{{- fail "tenants and tenantsExistingSecret are both set; keep one" }}
{{- end }}
{{- if and .Values.autoscaling.enabled .Values.autoscaling.targetCPUUtilizationPercentage (not (dig "requests" "cpu" "" .Values.resources)) }}
{{- fail "autoscaling.targetCPUUtilizationPercentage: is a share of resources.requests.cpu, which is not set; set it, or the target to null" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail "autoscaling.minReplicas is above autoscaling.maxReplicas" }}
{{- end }}
{{- with .Values.autoscaling }}
{{- if and .enabled (not (or .targetCPUUtilizationPercentage .targetQueueBytes .metrics)) }}
{{- fail "autoscaling.enabled: nothing is said to scale by; set targetCPUUtilizationPercentage, targetQueueBytes or metrics" }}
{{- end }}
{{- end }}
{{- if and .Values.service.nodePort (eq .Values.service.type "ClusterIP") }}
{{- fail "service.nodePort: a Service of type ClusterIP has none; set service.type to NodePort or LoadBalancer" }}
{{- end }}
{{- $own := list "helm.sh/chart" }}
{{- range list "name" "instance" "component" "version" "managed-by" "part-of" }}{{ $own = append $own (printf "app.kubernetes.io/%s" .) }}{{ end }}
{{- range $key := keys (.Values.commonLabels | default dict) }}
{{- if has $key $own }}{{ fail (printf "commonLabels: %s is the chart's own; take it out" $key) }}{{ end }}
{{- end }}
{{- range $key := keys (.Values.podLabels | default dict) }}
{{- if or (has $key $own) (hasKey ($.Values.commonLabels | default dict) $key) }}{{ fail (printf "podLabels: %s is there already, by the chart or by commonLabels; take it out" $key) }}{{ end }}
{{- end }}
{{- $version := splitList "." .Values.store.bundled.image.tag }}
{{- if and (eq .Values.store.mode "bundled") (regexMatch "^[0-9]+\\.[0-9]+" .Values.store.bundled.image.tag) }}
{{- if lt (add (mul 1000 (int (index $version 0))) (int (index $version 1))) 26002 }}
{{- fail (printf "store.bundled.image.tag: the collector needs ClickHouse 26.2 or newer, not %s" .Values.store.bundled.image.tag) }}
{{- end }}
{{- end }}
{{- end }}
