{{- define "lime.labels" -}}
app.kubernetes.io/name: lime
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Labels and annotations of an object. */ -}}
{{- define "lime.metadata" -}}
labels: {{- include "lime.labels" . | nindent 2 }}
{{- with .Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "lime.selector" -}}
app.kubernetes.io/name: lime
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "lime.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "lime.operatorAccount" -}}
{{ .Values.operator.serviceAccount.name | default (printf "%s-operator" .Release.Name) }}
{{- end }}

{{- define "lime.agentAccount" -}}
{{ .Values.agent.serviceAccount.name | default (printf "%s-agent" .Release.Name) }}
{{- end }}

{{- define "lime.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "map" . }}{{ .name }}{{ else }}{{ . }}{{ end }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "lime.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- /* Who pods are: a number, or "namespace" where a policy of the namespace says so. */ -}}
{{- define "lime.podUser" -}}
{{- if ne (toString .Values.podUser) "auto" -}}
{{ .Values.podUser | int64 | default .Values.podUser }}
{{- else if .Capabilities.APIVersions.Has "security.openshift.io/v1" -}}
namespace
{{- else -}}
65532
{{- end -}}
{{- end }}

{{- define "lime.podSecurity" -}}
{{- $user := include "lime.podUser" .root -}}
{{- $own := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- if ne $user "namespace" -}}
{{- $_ := set $own "runAsUser" (int64 $user) -}}
{{- $_ := set $own "runAsGroup" (int64 $user) -}}
{{- $_ := set $own "fsGroup" (int64 $user) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $own .given) }}
{{- end }}

{{- /* Where pods run: what operator and agents have in common. */ -}}
{{- define "lime.scheduling" -}}
{{- with .part.priorityClassName | default .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .part.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- if .part.hostNetwork }}
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
{{- end }}
{{- with .part.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
