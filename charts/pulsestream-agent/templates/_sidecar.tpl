{{/*
The sidecar, for the pod of any chart that depends on this one:

  spec:
    terminationGracePeriodSeconds: {{ include "pulsestream-agent.terminationGracePeriodSeconds" . }}
    securityContext:
      {{- include "pulsestream-agent.podSecurityContext" . | nindent 6 }}
    initContainers:
      {{- include "pulsestream-agent.sidecar" . | nindent 6 }}
    containers:
      - name: app
        volumeMounts:
          {{- include "pulsestream-agent.logsMount" . | nindent 10 }}
    volumes:
      {{- include "pulsestream-agent.volumes" . | nindent 6 }}

and {{ include "pulsestream-agent.configmap" . }} as a file of its own.

An init container that goes on (restartPolicy Always) is started before the app and ended after it: the kubelet sends its SIGTERM
when the app's containers have ended. So it reads the app's last words, and a Job is not held up by it. It has no startup probe:
the app does not wait until it reads, since it reads files from their beginning.
*/}}
{{- define "pulsestream-agent.sidecar" -}}
{{- $context := include "pulsestream-agent.context" . | fromYaml -}}
{{- include "pulsestream-agent.checks" $context -}}
{{- $at := include "pulsestream-agent.places" . | fromYaml -}}
{{- $v := $context.v -}}
- name: pulsestream-agent
  restartPolicy: Always
  {{- include "pulsestream-agent.container" $context | nindent 2 }}
  {{- if and $v.metrics.enabled $v.probes.sidecarReadiness }}
  readinessProbe:
    httpGet: {path: /healthz, port: agent-metrics}
    {{- toYaml $v.probes.liveness | nindent 4 }}
  {{- end }}
  volumeMounts:
    {{- include "pulsestream-agent.commonMounts" $context | nindent 4 }}
    - {{ include "pulsestream-agent.logsPart" (dict "context" $context "at" $v.logs.mountPath "readOnly" true) }}
    {{- if eq (include "pulsestream-agent.scopeFrom" $context) "storage" }}
    # What has to live as long as the logs lies beside them.
    - {{ include "pulsestream-agent.logsPart" (dict "context" $context "at" $at.beside "below" ".pulsestream") }}
    {{- end }}
    {{- with include "pulsestream-agent.stateVolume" $context }}
    - name: {{ . }}
      mountPath: {{ $at.state }}
      {{- with $v.state.subPath }}
      subPath: {{ . | quote }}
      {{- end }}
    {{- end }}
    {{- if $v.allPodLabels }}
    - {name: pulsestream-pod, mountPath: {{ $at.podinfo }}, readOnly: true}
    {{- end }}
{{- end }}

{{/* The pod's volumes, without those that it has already. Of a caller. */}}
{{- define "pulsestream-agent.volumes" -}}
{{- $context := include "pulsestream-agent.context" . | fromYaml -}}
{{- $v := $context.v -}}
{{- include "pulsestream-agent.commonVolumes" $context }}
{{- if $v.logs.claim }}
- name: pulsestream-logs
  persistentVolumeClaim: {claimName: {{ $v.logs.claim | quote }}}
{{- else if not $v.logs.volume }}
- name: pulsestream-logs
  emptyDir:
    {{- toYaml $v.logs.emptyDir | nindent 4 }}
{{- end }}
{{- if eq (include "pulsestream-agent.stateVolume" $context) "pulsestream-state" }}
- name: pulsestream-state
  emptyDir:
    {{- toYaml $v.state.emptyDir | nindent 4 }}
{{- end }}
{{- if $v.allPodLabels }}
- name: pulsestream-pod
  downwardAPI:
    items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]
{{- end }}
{{- end }}

{{/* The ConfigMap with agent.yaml, a whole object. Of a caller. */}}
{{- define "pulsestream-agent.configmap" -}}
{{- $context := include "pulsestream-agent.context" . | fromYaml -}}
{{- include "pulsestream-agent.checks" $context -}}
{{- include "pulsestream-agent.configMapOf" $context -}}
{{- end }}

{{/* The mount of the logs for the app's own container. Of a caller. */}}
{{- define "pulsestream-agent.logsMount" -}}
{{- $context := include "pulsestream-agent.context" . | fromYaml -}}
- {{ include "pulsestream-agent.logsPart" (dict "context" $context "at" $context.v.logs.mountPath) }}
{{- end }}

{{/* Lets the agent read what the app writes: the volumes' group. Of a caller. */}}
{{- define "pulsestream-agent.podSecurityContext" -}}
{{- $context := include "pulsestream-agent.context" . | fromYaml -}}
{{- toYaml $context.v.podSecurityContext -}}
{{- end }}

{{/* One mount of the logs' volume. context; at: where; below: a folder of it; readOnly. */}}
{{- define "pulsestream-agent.logsPart" -}}
{{- $logs := .context.v.logs -}}
{{- $mount := dict "name" ($logs.volume | default "pulsestream-logs") "mountPath" .at -}}
{{- $kind := ternary "subPathExpr" "subPath" (ne $logs.subPathExpr "") -}}
{{- $parts := without (list ($logs.subPathExpr | default $logs.subPath) (.below | default "")) "" -}}
{{- if $parts }}{{ $_ := set $mount $kind (join "/" $parts) }}{{ end -}}
{{- if .readOnly }}{{ $_ := set $mount "readOnly" true }}{{ end -}}
{{- toJson $mount -}}
{{- end }}

{{/* The volume of the state; empty where it lies beside the logs. Of a context. */}}
{{- define "pulsestream-agent.stateVolume" -}}
{{- if .v.state.volume -}}{{ .v.state.volume }}
{{- else if ne (include "pulsestream-agent.scopeFrom" .) "storage" -}}pulsestream-state
{{- end -}}
{{- end }}
