{{/* The agent's container but for its name. Of a context. */}}
{{- define "pulsestream-agent.container" -}}
{{- $v := .v -}}
{{- $at := include "pulsestream-agent.places" . | fromYaml -}}
{{- $mine := ternary $v.daemonset $v .own -}}
{{- $image := printf "%s:%s" $v.image.repository ($v.image.tag | default .version) -}}
{{- if $v.image.digest }}{{ $image = printf "%s@%s" $v.image.repository $v.image.digest }}{{ end -}}
image: {{ ternary (printf "%s/%s" $v.image.registry $image) $image (ne $v.image.registry "") | quote }}
imagePullPolicy: {{ $v.image.pullPolicy }}
# A ConfigMap that changes is taken by the agent itself, checked whole first: no pod is restarted for it.
{{- if not .own }}
# The kubelet starts the app when it has seen its sidecar run: one that ended at once, for want of a key, would hold up the app.
{{- end }}
args: [run, --config, {{ $at.config }}/agent.yaml, --watch-config{{ if not .own }}, --wait-to-start{{ end }}]
env:
  {{- include "pulsestream-agent.env" . | nindent 2 }}
{{- if $v.metrics.enabled }}
ports:
  - name: agent-metrics
    containerPort: {{ $v.metrics.port }}
{{- with $v.probes.liveness }}
livenessProbe:
  httpGet: {path: /livez, port: agent-metrics}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
resources:
  {{- toYaml $mine.resources | nindent 2 }}
securityContext:
  {{- toYaml $mine.securityContext | nindent 2 }}
{{- end }}

{{/* Of a context. */}}
{{- define "pulsestream-agent.env" -}}
{{- $from := include "pulsestream-agent.scopeFrom" . -}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- if eq $from "pod" }}
# An emptyDir lives exactly as long as the pod, and a pod's UID is never given again.
- name: PULSESTREAM_SCOPE
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
{{- else if eq $from "node" }}
- name: PULSESTREAM_SCOPE
  value: {{ ternary (printf "%s/$(NODE_NAME)" .v.cluster) "$(NODE_NAME)" (ne .v.cluster "") | quote }}
{{- else if eq $from "value" }}
- name: PULSESTREAM_SCOPE
  value: {{ .v.scope.value | quote }}
{{- end }}
{{- if not .own }}
{{- range $number, $name := .v.podLabels }}
- name: POD_LABEL_{{ $number }}
  valueFrom: {fieldRef: {fieldPath: {{ printf "metadata.labels['%s']" $name | quote }}}}
{{- end }}
{{- end }}
{{- with .v.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Mounts and volumes that a sidecar and the DaemonSet have in common. Of a context. */}}
{{- define "pulsestream-agent.commonMounts" -}}
{{- $at := include "pulsestream-agent.places" . | fromYaml -}}
- {name: pulsestream-config, mountPath: {{ $at.config }}, readOnly: true}
- {name: pulsestream-key, mountPath: {{ $at.key }}, readOnly: true}
{{- if .v.collector.tls.secretName }}
- {name: pulsestream-tls, mountPath: {{ $at.tls }}, readOnly: true}
{{- end }}
{{- end }}

{{- define "pulsestream-agent.commonVolumes" -}}
- name: pulsestream-config
  configMap: {name: {{ .fullname }}}
# Mounted in the agent's container only, and readable there for whatever user it is.
- name: pulsestream-key
  secret:
    secretName: {{ .v.apiKey.secretName | quote }}
    optional: {{ .v.apiKey.optional }}
    defaultMode: 0444
    items: [{key: {{ .v.apiKey.key | quote }}, path: api-key}]
{{- with .v.collector.tls }}
{{- if .secretName }}
- name: pulsestream-tls
  secret: {secretName: {{ .secretName | quote }}, optional: {{ $.v.apiKey.optional }}, defaultMode: 0444}
{{- end }}
{{- end }}
{{- end }}

{{/* The ConfigMap's content. Of a context. */}}
{{- define "pulsestream-agent.configMapOf" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .fullname }}
  namespace: {{ .namespace }}
  labels:
    {{- include "pulsestream-agent.labels" . | nindent 4 }}
data:
  agent.yaml: |
    {{- include "pulsestream-agent.config" . | nindent 4 }}
{{- end }}
