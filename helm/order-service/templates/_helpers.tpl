{{- define "order-service.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Takes (dict "root" $ "component" "api"). */ -}}
{{- define "order-service.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "order-service.labels" -}}
{{ include "order-service.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- /* Takes (dict "root" $ "image" …): tag and digest of it win over those of .Values.image. */ -}}
{{- define "order-service.image" -}}
{{- $image := .root.Values.image -}}
{{- if or .image.tag .image.digest }}{{ $image = merge (deepCopy .image) (pick .root.Values.image "repository") }}{{ end -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}
{{- else }}{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "order-service.podSecurity" -}}
runAsNonRoot: true
{{- range $name, $id := .Values.podSecurity }}
{{ $name }}: {{ int64 $id }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "order-service.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "order-service.secretName" -}}
{{- if eq .Values.secrets.from "existing" }}{{ .Values.secrets.existing.service }}
{{- else }}{{ include "order-service.name" . }}
{{- end }}
{{- end }}

{{- define "order-service.migrationSecretName" -}}
{{- if eq .Values.secrets.from "existing" }}{{ .Values.secrets.existing.migration }}
{{- else }}{{ include "order-service.name" . }}-migration
{{- end }}
{{- end }}

{{- /* The environment without secrets and roles: what values.config gives, and what is derived from other values. */ -}}
{{- define "order-service.config" -}}
{{- range $name, $value := .Values.config }}
{{- /* Helm reads numbers as floats, and toString would write large ones with an exponent. */}}
{{ $name }}: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
NODE_ENV: production
PORT: "3000"
MTLS_MODE: {{ .Values.clientCertificates.mode | quote }}
{{- if .Values.tls.secretName }}
TLS_CERT_FILE: /etc/order-service/tls/tls.crt
TLS_KEY_FILE: /etc/order-service/tls/tls.key
{{- end }}
{{- if .Values.trustedCa.configMapName }}
NODE_EXTRA_CA_CERTS: /etc/order-service/trusted-ca/ca.crt
{{- end }}
{{- if ne .Values.clientCertificates.mode "off" }}
TLS_CLIENT_CA_FILE: /etc/order-service/client-ca/ca.crt
{{- if ne .Values.exposure.type "none" }}
CLIENT_CERT_HEADER: {{ include "order-service.certificateHeader" . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* ingress-nginx names the header, and sets or empties it; at a gateway this chart does both. */ -}}
{{- define "order-service.certificateHeader" -}}
{{ eq .Values.exposure.type "ingress" | ternary "ssl-client-cert" "x-client-cert" }}
{{- end }}

{{- /* Secrets are listed one by one, so that each role sees only its own. */ -}}
{{- define "order-service.secretEnv" -}}
{{- $secret := include "order-service.secretName" .root -}}
{{- $names := dict "DATABASE_URL" false "DATABASE_DIRECT_URL" true "REDIS_URL" true "OTEL_EXPORTER_OTLP_HEADERS" true -}}
{{- $own := eq .component "api" | ternary (dict "PSEUDONYM_KEY" false) (dict "AUDIT_KEY" false "KAFKA_SASL_USERNAME" true "KAFKA_SASL_PASSWORD" true "PAYMENT_API_CLIENT_SECRET" true) -}}
{{- range $name, $optional := merge $names $own }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ $name }}
      {{- if $optional }}
      optional: true
      {{- end }}
{{- end }}
{{- end }}

{{- define "order-service.probe" -}}
httpGet:
  path: /health/{{ .path }}
  port: http
  {{- if .root.Values.tls.secretName }}
  scheme: HTTPS
  {{- end }}
{{- end }}

{{- /* The pod of a role. Takes (dict "root" $ "component" "api" "image" … "resources" …). */ -}}
{{- define "order-service.pod" -}}
metadata:
  # No version of chart or application among the labels: a new version must not replace pods whose image stays.
  labels:
    {{- include "order-service.selector" . | nindent 4 }}
  annotations:
    # Replaces pods when secrets in the values change, because a pod reads them once, at start. Changes of an existing or
    # external Secret are not seen here; see "A secret changes" in docs/operations.md.
    checksum/secret: {{ .root.Values.secrets | toJson | sha256sum }}
    {{- with .root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "order-service.name" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .root.Values.terminationGracePeriodSeconds }}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- include "order-service.podSecurity" .root | nindent 4 }}
  {{- with .root.Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .root.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "order-service.selector" $ | nindent 10 }}
    {{- end }}
  {{- with .root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "order-service.image" . }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      securityContext:
        {{- include "order-service.containerSecurity" . | nindent 8 }}
      # In the pod and not in a ConfigMap, so that pods of the previous version keep its configuration, also those that
      # start during a release or a rollback.
      env:
        - name: ROLES
          value: {{ .component }}
        {{- $config := include "order-service.config" .root | fromYaml }}
        {{- if eq .component "api" }}
        {{- /* The API calls neither Kafka nor the payment API, and gets no secrets for them. */}}
        {{- $config = omit $config "KAFKA_SASL_MECHANISM" "PAYMENT_API_TOKEN_URL" "PAYMENT_API_CLIENT_ID" "PAYMENT_API_SCOPE" }}
        {{- end }}
        {{- range $name, $value := $config }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
        {{- include "order-service.secretEnv" . | trim | nindent 8 }}
      ports:
        - name: http
          containerPort: 3000
      # No preStop hook: the service itself keeps serving for SHUTDOWN_DELAY_MS after SIGTERM; the image has no shell.
      startupProbe:
        {{- include "order-service.probe" (dict "root" .root "path" "live") | nindent 8 }}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 30
      readinessProbe:
        {{- include "order-service.probe" (dict "root" .root "path" "ready") | nindent 8 }}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      livenessProbe:
        {{- include "order-service.probe" (dict "root" .root "path" "live") | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      resources:
        {{- toYaml .resources | nindent 8 }}
      {{- with include "order-service.volumeMounts" .root | trim }}
      volumeMounts:
        {{- . | nindent 8 }}
      {{- end }}
  {{- with include "order-service.volumes" .root | trim }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "order-service.volumeMounts" -}}
{{- if .Values.tls.secretName }}
- name: tls
  mountPath: /etc/order-service/tls
  readOnly: true
{{- end }}
{{- if ne .Values.clientCertificates.mode "off" }}
- name: client-ca
  mountPath: /etc/order-service/client-ca
  readOnly: true
{{- end }}
{{- include "order-service.trustedCaMount" . }}
{{- end }}

{{- define "order-service.volumes" -}}
{{- if .Values.tls.secretName }}
- name: tls
  secret:
    secretName: {{ .Values.tls.secretName }}
    defaultMode: 0440
{{- end }}
{{- if ne .Values.clientCertificates.mode "off" }}
- name: client-ca
  secret:
    secretName: {{ .Values.clientCertificates.caSecretName }}
    defaultMode: 0440
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}
{{- include "order-service.trustedCaVolume" . }}
{{- end }}

{{- define "order-service.trustedCaMount" -}}
{{- if .Values.trustedCa.configMapName }}
- name: trusted-ca
  mountPath: /etc/order-service/trusted-ca
  readOnly: true
{{- end }}
{{- end }}

{{- define "order-service.trustedCaVolume" -}}
{{- with .Values.trustedCa.configMapName }}
- name: trusted-ca
  configMap:
    name: {{ . }}
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}
{{- end }}

{{- /* Rules of a NetworkPolicy. Takes (dict "root" $ "to" (list …)), keys of networkPolicy.egress. */ -}}
{{- define "order-service.egress" -}}
{{- $egress := .root.Values.networkPolicy.egress -}}
{{- with $egress.dns }}
{{- if .port }}
- {{ with .to }}to:
    {{- toYaml . | nindent 4 }}
  {{ end }}ports:
    - { protocol: UDP, port: {{ .port }} }
    - { protocol: TCP, port: {{ .port }} }
{{- end }}
{{- end }}
{{- range .to }}
{{- with index $egress . }}
{{- if .port }}
- {{ with .to }}to:
    {{- toYaml . | nindent 4 }}
  {{ end }}ports:
    - { protocol: TCP, port: {{ .port }} }
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Checks between values, which the schema cannot express. */ -}}
{{- define "order-service.check" -}}
{{- $v := .Values -}}
{{- $delay := hasKey $v.config "SHUTDOWN_DELAY_MS" | ternary $v.config.SHUTDOWN_DELAY_MS 5000 -}}
{{- $drain := add (ceil (divf (int $delay) 1000)) 35 -}}
{{- if lt (int $v.terminationGracePeriodSeconds) (int $drain) }}
{{- fail (printf "terminationGracePeriodSeconds must be at least %d: SHUTDOWN_DELAY_MS, 30 s for the last request, 5 s to flush" (int $drain)) }}
{{- end }}
{{- if and (eq $v.strategy "canary") (eq $v.exposure.type "none") }}
{{- fail "strategy canary splits traffic at the edge: exposure.type must be ingress or gateway" }}
{{- end }}
{{- if ne $v.exposure.type "none" }}
{{- range $name := list "host" "tlsSecretName" "className" }}
{{- if not (index $v.exposure $name) }}{{ fail (printf "exposure.%s is required with exposure.type %s" $name $v.exposure.type) }}{{ end }}
{{- end }}
{{- if $v.tls.secretName }}{{ fail "tls.secretName needs exposure.type none: an edge speaks plain HTTP to the service" }}{{ end }}
{{- if not $v.config.TRUSTED_PROXIES }}
{{- fail "config.TRUSTED_PROXIES is required with an exposure: addresses of the edge, else every client has the edge's address" }}
{{- end }}
{{- end }}
{{- if and (ne $v.exposure.type "none") $v.networkPolicy.enabled (not $v.networkPolicy.ingress.edge) }}
{{- fail "networkPolicy.ingress.edge is required with an exposure: the edge's pods, else nobody gets in" }}
{{- end }}
{{- if and $v.config.OTEL_EXPORTER_OTLP_ENDPOINT $v.networkPolicy.enabled (not $v.networkPolicy.egress.otlp.port) }}
{{- fail "networkPolicy.egress.otlp.port is required with config.OTEL_EXPORTER_OTLP_ENDPOINT: the collector's port, else no span gets out" }}
{{- end }}
{{- if ne $v.clientCertificates.mode "off" }}
{{- if not $v.clientCertificates.caSecretName }}{{ fail "clientCertificates.caSecretName is required unless clientCertificates.mode is off" }}{{ end }}
{{- if and (eq $v.exposure.type "none") (not $v.tls.secretName) }}
{{- fail "clientCertificates need tls.secretName or an exposure: somebody must ask for them" }}
{{- end }}
{{- end }}
{{- if eq $v.secrets.from "external" }}
{{- if not (and $v.secrets.external.store.name $v.secrets.external.serviceKey (or $v.secrets.external.migrationKey (not $v.migration.enabled))) }}
{{- fail "secrets.external needs store.name, serviceKey and migrationKey" }}
{{- end }}
{{- end }}
{{- if eq $v.secrets.from "values" }}
{{- range list "DATABASE_URL" "AUDIT_KEY" "PSEUDONYM_KEY" }}
{{- if not (index $v.secrets.values.service .) }}{{ fail (printf "secrets.values.service.%s is required" .) }}{{ end }}
{{- end }}
{{- if and $v.migration.enabled (not $v.secrets.values.migration.DATABASE_MIGRATION_URL) }}
{{- fail "secrets.values.migration.DATABASE_MIGRATION_URL is required" }}
{{- end }}
{{- end }}
{{- if and (eq $v.clientCertificates.mode "off") (eq (default "off" $v.config.MTLS_CLIENT_NAME) "required") }}
{{- fail "config.MTLS_CLIENT_NAME required needs clientCertificates.mode other than off" }}
{{- end }}
{{- if and $v.worker.keda.enabled (not $v.config.KAFKA_BROKERS) }}
{{- fail "worker.keda scales on the lag of Kafka: config.KAFKA_BROKERS is required" }}
{{- end }}
{{- if and $v.worker.keda.enabled (gt (int $v.worker.keda.minReplicas) (int $v.worker.keda.maxReplicas)) }}
{{- fail "worker.keda.minReplicas must not exceed worker.keda.maxReplicas" }}
{{- end }}
{{- if and $v.api.autoscaling.enabled (gt (int $v.api.autoscaling.minReplicas) (int $v.api.autoscaling.maxReplicas)) }}
{{- fail "api.autoscaling.minReplicas must not exceed api.autoscaling.maxReplicas" }}
{{- end }}
{{- if and (ne $v.strategy "rolling") (not $v.monitoring.enabled) }}
{{- fail "strategies other than rolling judge by recording rules: monitoring.enabled must be true" }}
{{- end }}
{{- end }}
