{{/* What cannot work is refused here, with the mend, and not found out in the cluster. Of a context. */}}
{{- define "pulsestream-agent.checks" -}}
{{- $v := .v -}}
{{- if not $v.collector.url -}}
{{-   fail "pulsestream-agent: collector.url is empty; say where the collector is, for instance http://pulsestream-collector:8080" -}}
{{- end -}}
{{- if not $v.apiKey.secretName -}}
{{-   fail "pulsestream-agent: apiKey.secretName is empty; name a Secret that holds a key with the scope ingest" -}}
{{- end -}}
{{- if semverCompare "<1.29.0-0" .kubernetes -}}
{{-   fail (printf "pulsestream-agent: Kubernetes %s has no sidecars by default; 1.29 is the oldest that has" .kubernetes) -}}
{{- end -}}
{{- if not .own -}}
{{-   if and $v.logs.volume $v.logs.claim -}}
{{-     fail "pulsestream-agent: logs.volume and logs.claim are both set; keep one" -}}
{{-   end -}}
{{-   if and $v.logs.subPath $v.logs.subPathExpr -}}
{{-     fail "pulsestream-agent: logs.subPath and logs.subPathExpr are both set; keep one" -}}
{{-   end -}}
{{-   if and $v.logs.volume (not $v.scope.from) (not $v.scope.value) -}}
{{-     fail (printf "pulsestream-agent: logs.volume is %s, and nobody can tell here how long it lives; say scope.from: pod for an emptyDir, scope.from: storage for one that outlives the pod" $v.logs.volume) -}}
{{-   end -}}
{{-   if and $v.logs.claim (eq $v.scope.from "pod") (not $v.scope.value) -}}
{{-     fail (printf "pulsestream-agent: logs.claim %s outlives the pod, and scope.from is pod: the next pod would send every line again; say scope.from: storage, or nothing" $v.logs.claim) -}}
{{-   end -}}
{{-   if not $v.sources -}}
{{-     fail "pulsestream-agent: sources is empty; name at least one, with name and include" -}}
{{-   end -}}
{{- end -}}
{{- end }}

{{/*
The pod's terminationGracePeriodSeconds: what is given, if it is enough, else what is needed. Of a caller.

The kubelet ends the app's containers first. A sidecar gets its SIGTERM when all of them have ended, and what is left of the
grace period then; so both have to fit. The agent needs its timeout and a second for what is behind the last ack; two more are
for the signals' way.
*/}}
{{- define "pulsestream-agent.terminationGracePeriodSeconds" -}}
{{- $context := include "pulsestream-agent.context" . | fromYaml -}}
{{- $v := $context.v -}}
{{- $agent := add (ceil $v.shutdown.timeoutSeconds) 3 -}}
{{- $app := ternary 0 (ceil $v.shutdown.appSeconds) $context.own -}}
{{- $needed := add $agent $app -}}
{{- $given := $v.terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $given -}}
{{-   $needed -}}
{{- else if lt (int64 $given) (int64 $needed) -}}
{{-   $of := printf "%d s for the agent (shutdown.timeoutSeconds and 3 s)" (int64 $agent) -}}
{{-   if not $context.own -}}
{{-     $of = printf "%d s for the app (shutdown.appSeconds), then %s" (int64 $app) $of -}}
{{-   end -}}
{{-   fail (printf "pulsestream-agent: terminationGracePeriodSeconds is %d, below %d: %s; raise it, or lower one of these" (int64 $given) (int64 $needed) $of) -}}
{{- else -}}
{{-   int64 $given -}}
{{- end -}}
{{- end }}

{{/* Where the scope is from: value, pod, storage or node. Of a context. */}}
{{- define "pulsestream-agent.scopeFrom" -}}
{{- if .v.scope.value -}}value
{{- else if .own -}}node
{{- else if .v.scope.from -}}{{ .v.scope.from }}
{{- else if .v.logs.claim -}}storage
{{- else -}}pod
{{- end -}}
{{- end }}
