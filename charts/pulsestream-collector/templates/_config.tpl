{{/*
Where everything lies in the pod. One projected volume holds the configuration and all secrets, so a mount is never inside another.
*/}}
{{- define "collector.folder" -}}/etc/pulsestream{{- end }}

{{/* Name of the Secret that has the chart's own secrets, or of the one that is there. */}}
{{- define "collector.secretName" -}}
{{- .Values.existingSecret.name | default (include "collector.fullname" .) }}
{{- end }}

{{/* (list $ "adminToken"): its key in that Secret; empty when it is not given. */}}
{{- define "collector.secretKey" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}
{{- if $root.Values.existingSecret.name }}
{{- get $root.Values.existingSecret $name }}
{{- else if get $root.Values.secrets $name }}
{{- kebabcase $name }}
{{- end }}
{{- end }}

{{/* (list $ "adminToken"): the path of its file in the pod; empty when it is not given. */}}
{{- define "collector.secretFile" -}}
{{- if include "collector.secretKey" . }}
{{- printf "%s/secrets/%s" (include "collector.folder" (index . 0)) (kebabcase (index . 1)) }}
{{- end }}
{{- end }}

{{- define "collector.hasTenants" -}}
{{- if or .Values.tenants .Values.tenantsExistingSecret }}yes{{ end }}
{{- end }}

{{- define "collector.storeUrl" -}}
{{- if eq .Values.store.mode "embedded" }}chdb:///var/lib/pulsestream/store
{{- else if eq .Values.store.mode "external" }}{{ .Values.store.external.url }}
{{- else }}{{ printf "http://%s:8123" (include "collector.clickhouseName" .) }}
{{- end }}
{{- end }}

{{/* collector.yaml: what is in `config`, and what the chart knows. */}}
{{- define "collector.config" -}}
{{- $config := deepCopy .Values.config }}
{{- $server := $config.server | default dict }}
{{- $_ := set $server "host" .Values.listen }}
{{- $_ := set $server "port" 8080 }}
{{- if .Values.tls.secretName }}
{{- $tls := $server.tls | default dict }}
{{- $folder := printf "%s/tls" (include "collector.folder" .) }}
{{- $_ := set $tls "cert_file" (printf "%s/tls.crt" $folder) }}
{{- $_ := set $tls "key_file" (printf "%s/tls.key" $folder) }}
{{- if .Values.tls.clientCaKey }}
{{- $_ := set $tls "client_ca_file" (printf "%s/client-ca.crt" $folder) }}
{{- $_ := set $tls "client_certificates" ($tls.client_certificates | default "required_except_probes") }}
{{- end }}
{{- $_ := set $server "tls" $tls }}
{{- end }}
{{- $store := $config.store | default dict }}
{{- $_ := set $store "url" (include "collector.storeUrl" .) }}
{{- $_ := set $store "database" .Values.store.database }}
{{- if ne .Values.store.mode "embedded" }}
{{- $_ := set $store "user" (get .Values.store .Values.store.mode).user }}
{{- with include "collector.secretFile" (list . "clickhousePassword") }}{{ $_ := set $store "password_file" . }}{{ end }}
{{- with include "collector.secretFile" (list . "clickhouseCa") }}{{ $_ := set $store "ca_file" . }}{{ end }}
{{- end }}
{{- $quota := $config.quota | default dict }}
{{- $collectors := ternary .Values.autoscaling.maxReplicas .Values.replicaCount .Values.autoscaling.enabled }}
{{- $_ := set $quota "replicas" (int ($quota.replicas | default $collectors)) }}
{{- if .Values.redis.url }}
{{- $_ := set $quota "redis_url" .Values.redis.url }}
{{- with include "collector.secretFile" (list . "redisPassword") }}{{ $_ := set $quota "redis_password_file" . }}{{ end }}
{{- with include "collector.secretFile" (list . "redisCa") }}{{ $_ := set $quota "redis_ca_file" . }}{{ end }}
{{- end }}
{{- $_ := set $config "server" $server }}
{{- $_ := set $config "store" $store }}
{{- $_ := set $config "quota" $quota }}
{{- with include "collector.secretFile" (list . "adminToken") }}{{ $_ := set $config "admin_token_file" . }}{{ end }}
{{- if include "collector.hasTenants" . }}{{ $_ := set $config "tenants_file" (printf "%s/tenants.yaml" (include "collector.folder" .)) }}{{ end }}
{{- toYaml $config }}
{{- end }}

{{- define "collector.ownSecrets" -}}
{{- if not .Values.existingSecret.name }}
{{- range $name, $value := .Values.secrets }}
{{- if $value }}
{{ kebabcase $name }}: {{ $value | b64enc }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* (list $ (dict "config" … "secret" … "serves" …)): the volumes of a pod, by the names of what they hold, and whether it is a collector. */}}
{{- define "collector.volumes" -}}
{{- $root := index . 0 }}{{ $names := index . 1 }}
- name: config
  projected:
    defaultMode: 0440
    sources:
      - configMap:
          name: {{ $names.config }}
      {{- $keys := list }}
      {{- range $name, $_ := $root.Values.secrets }}
      {{- with include "collector.secretKey" (list $root $name) }}
      {{- $keys = append $keys (dict "key" . "path" (printf "secrets/%s" (kebabcase $name))) }}
      {{- end }}
      {{- end }}
      {{- with $keys }}
      - secret:
          name: {{ $names.secret }}
          items: {{- toYaml . | nindent 12 }}
      {{- end }}
      {{- if and $names.serves (include "collector.hasTenants" $root) }}
      - secret:
          name: {{ $root.Values.tenantsExistingSecret | default (printf "%s-tenants" $names.config) }}
          items:
            - key: tenants.yaml
              path: tenants.yaml
      {{- end }}
      {{- if and $names.serves $root.Values.tls.secretName }}
      - secret:
          name: {{ $root.Values.tls.secretName }}
          items:
            - {key: tls.crt, path: tls/tls.crt}
            - {key: tls.key, path: tls/tls.key}
            {{- with $root.Values.tls.clientCaKey }}
            - {key: {{ . }}, path: tls/client-ca.crt}
            {{- end }}
      {{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ $root.Values.tmpSize }}
{{- end }}

{{- define "collector.mounts" -}}
- name: config
  mountPath: {{ include "collector.folder" . }}
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- end }}
