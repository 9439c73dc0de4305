{{/*
What the other templates work on, as YAML: `include "pulsestream-agent.context" CALLER | fromYaml`.

CALLER is the `.` of the chart that depends on this one; with an alias in its Chart.yaml it is
(dict "root" . "alias" "NAME"), so that two workloads of one chart have values of their own; (dict "root" . "own" true) is
this chart itself, as a DaemonSet.
*/}}
{{- define "pulsestream-agent.context" -}}
{{- $root := . -}}
{{- $alias := "pulsestream-agent" -}}
{{- $own := false -}}
{{- if not (hasKey . "Chart") -}}
{{-   $root = .root -}}
{{-   $alias = .alias | default $alias -}}
{{-   $own = .own | default false -}}
{{- end -}}
{{- $chart := $root.Chart -}}
{{- $values := $root.Values -}}
{{- if not $own -}}
{{-   $sub := index ($root.Subcharts | default dict) $alias -}}
{{-   if not $sub -}}
{{-     fail (printf "pulsestream-agent: %s has no dependency called %s; name it in Chart.yaml, or say (dict \"root\" . \"alias\" \"ITS NAME\")" $root.Chart.Name $alias) -}}
{{-   end -}}
{{-   $chart = $sub.Chart -}}
{{-   $values = $sub.Values -}}
{{- end -}}
{{- $made := printf "%s-%s" $root.Release.Name $alias -}}
{{- if and $own (contains "pulsestream-agent" $root.Release.Name) -}}
{{-   $made = $root.Release.Name -}}
{{- end -}}
own: {{ $own }}
alias: {{ $alias | quote }}
{{- /* A DaemonSet's pods have its name whole, and five letters more, up to 57. A ConfigMap's name may be long: two aliases differ. */}}
fullname: {{ $values.fullnameOverride | default $made | trunc (ternary 57 253 $own) | trimSuffix "-" | quote }}
release: {{ $root.Release.Name | quote }}
namespace: {{ $root.Release.Namespace | quote }}
service: {{ $values.service | default $root.Chart.Name | quote }}
version: {{ $chart.AppVersion | quote }}
chart: {{ printf "pulsestream-agent-%s" $chart.Version | quote }}
kubernetes: {{ $root.Capabilities.KubeVersion.Version | quote }}
v:
{{- toYaml $values | nindent 2 }}
{{- end }}

{{/* Labels of the objects that are made here. Of a context. */}}
{{- define "pulsestream-agent.labels" -}}
helm.sh/chart: {{ .chart | replace "+" "_" }}
app.kubernetes.io/managed-by: Helm
app.kubernetes.io/version: {{ .version | quote }}
{{ include "pulsestream-agent.selector" . }}
{{- end }}

{{/* What the pods of the DaemonSet are known by. Of a context. */}}
{{- define "pulsestream-agent.selector" -}}
app.kubernetes.io/name: pulsestream-agent
app.kubernetes.io/instance: {{ .release }}
{{- end }}

{{/* Where things are inside the container. They are the image's, and the same for every agent. */}}
{{- define "pulsestream-agent.places" -}}
config: /etc/pulsestream
key: /run/secrets/pulsestream
tls: /run/secrets/pulsestream-tls
podinfo: /etc/pulsestream-pod
state: /var/lib/pulsestream
beside: /var/lib/pulsestream-logs
{{- end }}
