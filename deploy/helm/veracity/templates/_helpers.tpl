{{- define "veracity.fullname" -}}
{{- if contains "veracity" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-veracity" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "veracity.selector" -}}
app.kubernetes.io/name: veracity
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "veracity.labels" -}}
{{ include "veracity.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "veracity.image" -}}
{{ .root.Values.image.registry }}/veracity-{{ .component }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "veracity.grace" -}}
{{- $needed := add .Values.gateway.preStopSeconds .Values.gateway.drainSeconds 15 -}}
{{- .Values.gateway.terminationGracePeriodSeconds | default $needed -}}
{{- end }}

{{- /* What the schema cannot say, as sentences that say what to do. */ -}}
{{- define "veracity.check" -}}
{{- $gateway := .Values.gateway -}}
{{- $needed := add $gateway.preStopSeconds $gateway.drainSeconds 15 -}}
{{- if and $gateway.terminationGracePeriodSeconds (lt (int $gateway.terminationGracePeriodSeconds) (int $needed)) -}}
{{- fail (printf "gateway.terminationGracePeriodSeconds is %d, but preStop, drain and closing take %d s: leave it out, or shorten gateway.drainSeconds" (int $gateway.terminationGracePeriodSeconds) (int $needed)) -}}
{{- end -}}
{{- if and $gateway.auth.required (not $gateway.auth.secretName) (not $gateway.auth.jwksUrl) -}}
{{- fail "gateway.auth.required needs a key: set gateway.auth.secretName (HS256) or gateway.auth.jwksUrl" -}}
{{- end -}}
{{- if and $gateway.auth.secretName $gateway.auth.jwksUrl -}}
{{- fail "set gateway.auth.secretName or gateway.auth.jwksUrl, not both: the key decides the algorithm" -}}
{{- end -}}
{{- if and .Values.nats.nkeySecret .Values.nats.credsSecret -}}
{{- fail "set nats.nkeySecret or nats.credsSecret, not both" -}}
{{- end -}}
{{- if and .Values.ingest.enabled (not .Values.ingest.apiKeysSecret) -}}
{{- fail "ingest.apiKeysSecret is needed: a Secret with hashes under `api-keys` (`veracity api-key` makes a key and its hash), or set ingest.enabled=false" -}}
{{- end -}}
{{- if gt (int $gateway.autoscaling.minReplicas) (int $gateway.autoscaling.maxReplicas) -}}
{{- fail "gateway.autoscaling.minReplicas is larger than maxReplicas" -}}
{{- end -}}
{{- if and (eq $gateway.autoscaling.kind "keda") (not $gateway.autoscaling.targetConnections) -}}
{{- fail "gateway.autoscaling.kind=keda scales on connections: set gateway.autoscaling.targetConnections" -}}
{{- end -}}
{{- if and (gt (int $gateway.handshakesPerAddress) 0) (or .Values.ingress.enabled .Values.httpRoute.enabled) (not $gateway.trustedProxies) -}}
{{- fail "gateway.handshakesPerAddress behind an ingress limits the ingress itself: set gateway.trustedProxies to its addresses" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled needs httpRoute.parentRefs: the Gateway it hangs on" -}}
{{- end -}}
{{- end }}

{{- define "veracity.environment" -}}
{{- $values := .root.Values -}}
- { name: VERACITY_HOST, value: "0.0.0.0" }
- { name: VERACITY_PORT, value: "8000" }
- { name: VERACITY_NATS_URL, value: {{ $values.nats.url | quote }} }
- { name: VERACITY_STREAM_REPLICAS, value: {{ $values.streams.replicas | quote }} }
- { name: VERACITY_STREAM_STORAGE, value: {{ $values.streams.storage | quote }} }
- { name: VERACITY_EVENTS_MAX_AGE, value: {{ $values.streams.eventsMaxAge | int | quote }} }
- { name: VERACITY_MANAGE_STREAMS, value: {{ ternary "false" "true" (and $values.streams.setupJob (ne .component "setup")) | quote }} }
{{- if $values.nats.tls.caSecret }}
- { name: VERACITY_NATS_TLS_CA, value: /etc/veracity/nats-ca/ca.crt }
{{- end }}
{{- if $values.nats.nkeySecret }}
- { name: VERACITY_NATS_NKEY, value: /etc/veracity/nats/{{ .component }}.nk }
{{- else if $values.nats.credsSecret }}
- { name: VERACITY_NATS_CREDS, value: /etc/veracity/nats/nats.creds }
{{- end }}
{{- range $name, $value := .env }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end }}

{{- define "veracity.mounts" -}}
- { name: tmp, mountPath: /tmp }
{{- if .root.Values.nats.tls.caSecret }}
- { name: nats-ca, mountPath: /etc/veracity/nats-ca, readOnly: true }
{{- end }}
{{- if or .root.Values.nats.nkeySecret .root.Values.nats.credsSecret }}
- { name: nats, mountPath: /etc/veracity/nats, readOnly: true }
{{- end }}
{{- end }}

{{- define "veracity.volumes" -}}
- { name: tmp, emptyDir: { sizeLimit: 64Mi } }
{{- with .root.Values.nats.tls.caSecret }}
- { name: nats-ca, secret: { secretName: {{ . }} } }
{{- end }}
{{- if .root.Values.nats.nkeySecret }}
- name: nats
  secret:
    secretName: {{ .root.Values.nats.nkeySecret }}
    items: [{ key: {{ .component }}.nk, path: {{ .component }}.nk }]
{{- else if .root.Values.nats.credsSecret }}
- { name: nats, secret: { secretName: {{ .root.Values.nats.credsSecret }} } }
{{- end }}
{{- end }}

{{- define "veracity.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "veracity.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{- define "veracity.placement" -}}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: { matchLabels: {{ include "veracity.selector" $ | fromYaml | toJson }} }
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}

{{- define "veracity.probes" -}}
startupProbe: { httpGet: { path: /healthz, port: http }, periodSeconds: 2, failureThreshold: 30 }
livenessProbe: { httpGet: { path: /healthz, port: http }, periodSeconds: 10, timeoutSeconds: 5 }
readinessProbe: { httpGet: { path: /readyz, port: http }, periodSeconds: 5, timeoutSeconds: 3 }
{{- end }}
