{{/* The agent's configuration. Of a context. Everything that is secret, or known in the pod only, is not in it. */}}
{{- define "pulsestream-agent.config" -}}
{{- $v := .v -}}
{{- $at := include "pulsestream-agent.places" . | fromYaml -}}
{{- $storage := eq (include "pulsestream-agent.scopeFrom" .) "storage" -}}
{{- $collector := dict "url" $v.collector.url "api_key_file" (printf "%s/%s" $at.key "api-key") -}}
{{- if $v.collector.urls }}{{ $_ := set $collector "urls" $v.collector.urls }}{{ end -}}
{{- if $v.collector.tls.secretName -}}
{{-   if $v.collector.tls.ca }}{{ $_ := set $collector "ca_file" (printf "%s/ca.crt" $at.tls) }}{{ end -}}
{{-   if $v.collector.tls.client -}}
{{-     $_ := set $collector "cert_file" (printf "%s/tls.crt" $at.tls) -}}
{{-     $_ := set $collector "key_file" (printf "%s/tls.key" $at.tls) -}}
{{-   end -}}
{{- end -}}
{{- $config := dict
      "sources" (include "pulsestream-agent.sources" . | fromYamlArray)
      "collector" $collector
      "name" (ternary "${NODE_NAME}" "${POD_NAME}" .own)
      "state_dir" $at.state
      "shutdown_timeout_s" $v.shutdown.timeoutSeconds
      "shutdown_quiet_s" $v.shutdown.quietSeconds
-}}
{{- if $storage -}}
{{-   $_ := set $config "scope_file" (printf "%s/scope" $at.beside) -}}
{{-   if not $v.state.volume }}{{ $_ := set $config "state_dir" (printf "%s/state" $at.beside) }}{{ end -}}
{{- end -}}
{{- if $v.metrics.enabled -}}
{{-   $_ := set $config "metrics" (dict "listen" (printf "%s:%d" $v.metrics.host (int64 $v.metrics.port)) "max_lag_s" $v.metrics.maxLagSeconds) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy $v.config)) -}}
{{- end }}

{{/* The sources, each with all labels that are known. Of a context. */}}
{{- define "pulsestream-agent.sources" -}}
{{- $context := . -}}
{{- $v := .v -}}
{{- $at := include "pulsestream-agent.places" . | fromYaml -}}
{{- $labels := include "pulsestream-agent.eventLabels" . | fromYaml -}}
{{- $sources := $v.sources -}}
{{- $own := dict -}}
{{- if .own -}}
{{-   $sources = prepend $v.daemonset.extraSources (include "pulsestream-agent.nodeSource" . | fromYaml) -}}
{{- end -}}
{{- $made := list -}}
{{- range $source := $sources -}}
{{-   $one := deepCopy $source -}}
{{-   $_ := set $one "labels" (merge (dict) ($one.labels | default dict) $labels) -}}
{{-   if not $context.own -}}
{{-     range $key := list "include" "exclude" -}}
{{-       $paths := list -}}
{{-       range $path := (index $source $key | default list) -}}
{{-         $paths = append $paths (ternary $path (printf "%s/%s" (trimSuffix "/" $v.logs.mountPath) $path) (hasPrefix "/" $path)) -}}
{{-       end -}}
{{-       if $paths }}{{ $_ := set $one $key $paths }}{{ end -}}
{{-     end -}}
{{-     if not $one.service }}{{ $_ := set $one "service" $context.service }}{{ end -}}
{{-     if and $v.allPodLabels (not $one.labels_file) -}}
{{-       $_ := set $one "labels_file" (printf "%s/labels" $at.podinfo) -}}
{{-     end -}}
{{-   end -}}
{{-   $made = append $made $one -}}
{{- end -}}
{{- toYaml $made -}}
{{- end }}

{{/* What is known of the pod or the node. Of a context. Values are of the environment: a configuration is shared by many pods. */}}
{{- define "pulsestream-agent.eventLabels" -}}
{{- $labels := dict "node" "${NODE_NAME}" -}}
{{- if not .own -}}
{{-   $_ := set $labels "pod" "${POD_NAME}" -}}
{{-   $_ := set $labels "namespace" "${POD_NAMESPACE}" -}}
{{-   range $number, $name := .v.podLabels -}}
{{-     $_ := set $labels $name (printf "${POD_LABEL_%d:-}" $number) -}}
{{-   end -}}
{{- end -}}
{{- if .v.cluster }}{{ $_ := set $labels "cluster" .v.cluster }}{{ end -}}
{{- toYaml (merge (dict) .v.labels $labels) -}}
{{- end }}

{{/* The logs of all containers of a node. Of a context. */}}
{{- define "pulsestream-agent.nodeSource" -}}
{{- $node := .v.daemonset -}}
{{- $exclude := list "/*.tmp"
      (printf "/var/log/pods/%s_%s-*/pulsestream-agent/*" .namespace .fullname)
      (printf "/var/log/containers/%s-*_%s_pulsestream-agent-*" .fullname .namespace)
-}}
{{- range $namespace := $node.excludeNamespaces -}}
{{-   $exclude = concat $exclude (list (printf "/var/log/pods/%s_*" $namespace) (printf "/var/log/containers/*_%s_*" $namespace)) -}}
{{- end -}}
{{- $source := dict
      "name" "containers"
      "include" $node.include
      "exclude" (concat $exclude $node.exclude)
      "container" $node.container
      "format" $node.format
      "path_labels" $node.pathLabels
-}}
{{- toYaml (mergeOverwrite $source (deepCopy $node.source)) -}}
{{- end }}
