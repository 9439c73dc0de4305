CREATE DATABASE IF NOT EXISTS pulsestream ON CLUSTER 'main';

CREATE TABLE IF NOT EXISTS pulsestream.schema_version ON CLUSTER 'main' (
  version UInt32,
  applied DateTime64(6, 'UTC')
) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/pulsestream/schema_version', '{shard}-{replica}', applied)
ORDER BY version
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480, max_suspicious_broken_parts = 1000000000, max_suspicious_broken_parts_bytes = 1000000000000000;

CREATE TABLE IF NOT EXISTS pulsestream.events_local ON CLUSTER 'main' (
  tenant_id LowCardinality(String),
  external_id String CODEC(ZSTD(1)),
  timestamp DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  observed_timestamp DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  event_type LowCardinality(String),
  severity LowCardinality(String),
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  message String CODEC(ZSTD(1)),
  attributes Map(LowCardinality(String), String) CODEC(ZSTD(3)),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64 CODEC(ZSTD(1)),
  is_deleted UInt8,
  title String CODEC(ZSTD(1)),
  endpoint String CODEC(ZSTD(3)),
  method LowCardinality(String),
  service_version LowCardinality(String),
  environment LowCardinality(String),
  user_id String CODEC(ZSTD(1)),
  session_id String CODEC(ZSTD(1)),
  request_id String CODEC(ZSTD(1)),
  trace_id String CODEC(ZSTD(1)),
  span_id String CODEC(ZSTD(1)),
  ip_address String CODEC(ZSTD(1)),
  user_agent LowCardinality(String) CODEC(ZSTD(1)),
  tags Array(LowCardinality(String)) CODEC(ZSTD(1)),
  status_code UInt16 CODEC(ZSTD(1)),
  response_time_ms Float64 CODEC(ZSTD(1)),
  request_size_bytes UInt64 CODEC(ZSTD(1)),
  response_size_bytes UInt64 CODEC(ZSTD(1)),
  zero_metrics Array(LowCardinality(String)) CODEC(ZSTD(1)),
  error_code LowCardinality(String),
  error_type LowCardinality(String),
  error_message String CODEC(ZSTD(1)),
  stack_trace String CODEC(ZSTD(1)),
  payload String CODEC(ZSTD(1)),
  metadata String CODEC(ZSTD(1)),
  items Array(String) ALIAS arrayMap((k, v) -> concat(k, '=', v), mapKeys(attributes), mapValues(attributes)),
  INDEX timestamp_minmax timestamp TYPE minmax GRANULARITY 1,
  INDEX id_bloom external_id TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX attribute_items arrayMap((k, v) -> concat(k, '=', v), mapKeys(attributes), mapValues(attributes)) TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX message_words lower(message) TYPE text(tokenizer = 'splitByNonAlpha'),
  INDEX title_words lower(title) TYPE text(tokenizer = 'splitByNonAlpha')
) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/pulsestream/events_local', '{replica}', version, is_deleted)
PARTITION BY (retention_days, toMonday(timestamp))
ORDER BY (tenant_id, external_id)
TTL toDateTime(timestamp) + toIntervalDay(retention_days)
SETTINGS index_granularity = 2048, ttl_only_drop_parts = 1, min_bytes_for_wide_part = 134217728, enable_block_number_column = 1,
  default_compression_codec = 'ZSTD(1)',
  exclude_materialize_skip_indexes_on_merge = 'message_words', fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480, max_suspicious_broken_parts = 1000000000, max_suspicious_broken_parts_bytes = 1000000000000000;

CREATE TABLE IF NOT EXISTS pulsestream.events ON CLUSTER 'main' AS pulsestream.events_local
ENGINE = Distributed('main', pulsestream, events_local, cityHash64(tenant_id, if(match(external_id, '^[0-9a-f]{16}-[0-9a-f]{12}-[0-9a-f]{8}$'), substring(external_id, 1, 16), external_id)));

CREATE TABLE IF NOT EXISTS pulsestream.losses ON CLUSTER 'main' (
  tenant_id LowCardinality(String),
  loss_id String,
  time DateTime64(6, 'UTC'),
  agent LowCardinality(String),
  scope LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  file_id String,
  reason LowCardinality(String),
  lost_bytes UInt64,
  events UInt64,
  at_least UInt8,
  offset UInt64,
  retention_days UInt16
) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/pulsestream/losses', '{shard}-{replica}')
ORDER BY (tenant_id, loss_id)
TTL toDateTime(time) + toIntervalDay(retention_days)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480, max_suspicious_broken_parts = 1000000000, max_suspicious_broken_parts_bytes = 1000000000000000;

CREATE TABLE IF NOT EXISTS pulsestream.tenants ON CLUSTER 'main' (
  tenant_id String,
  slug String,
  name String,
  contact_email String,
  limits String,
  disabled UInt8,
  created DateTime64(6, 'UTC'),
  version UInt64,
  origin LowCardinality(String)
) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/pulsestream/tenants', '{shard}-{replica}', version)
ORDER BY tenant_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480, max_suspicious_broken_parts = 1000000000, max_suspicious_broken_parts_bytes = 1000000000000000;

CREATE TABLE IF NOT EXISTS pulsestream.api_keys ON CLUSTER 'main' (
  key_hash String,
  key_id String,
  tenant_id String,
  scopes Array(String),
  name String,
  created DateTime64(6, 'UTC'),
  expires Nullable(DateTime64(6, 'UTC')),
  revoked UInt8,
  version UInt64,
  origin LowCardinality(String)
) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/pulsestream/api_keys', '{shard}-{replica}', version)
ORDER BY key_hash
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480, max_suspicious_broken_parts = 1000000000, max_suspicious_broken_parts_bytes = 1000000000000000;

CREATE TABLE IF NOT EXISTS pulsestream.key_uses ON CLUSTER 'main' (
  tenant_id String,
  key_id String,
  used DateTime64(6, 'UTC')
) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/pulsestream/key_uses', '{shard}-{replica}', used)
ORDER BY (tenant_id, key_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480, max_suspicious_broken_parts = 1000000000, max_suspicious_broken_parts_bytes = 1000000000000000;

CREATE TABLE IF NOT EXISTS pulsestream.usage ON CLUSTER 'main' (
  tenant_id String,
  month UInt32,
  writer String,
  events UInt64,
  bytes UInt64,
  version UInt64
) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/pulsestream/usage', '{shard}-{replica}', version)
ORDER BY (month, tenant_id, writer)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480, max_suspicious_broken_parts = 1000000000, max_suspicious_broken_parts_bytes = 1000000000000000;

CREATE TABLE IF NOT EXISTS pulsestream.outcomes ON CLUSTER 'main' (
  tenant_id String,
  hour DateTime('UTC'),
  outcome LowCardinality(String),
  reason LowCardinality(String),
  writer String,
  events UInt64,
  bytes UInt64,
  version UInt64
) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/pulsestream/outcomes', '{shard}-{replica}', version)
ORDER BY (tenant_id, hour, outcome, reason, writer)
TTL hour + toIntervalDay(400)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480, max_suspicious_broken_parts = 1000000000, max_suspicious_broken_parts_bytes = 1000000000000000;

CREATE TABLE IF NOT EXISTS pulsestream.agents ON CLUSTER 'main' (
  tenant_id String,
  agent String,
  scope String,
  seen DateTime64(6, 'UTC'),
  heartbeat String
) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/pulsestream/agents', '{shard}-{replica}', seen)
ORDER BY (tenant_id, agent, scope)
TTL toDateTime(seen) + toIntervalDay(90)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480, max_suspicious_broken_parts = 1000000000, max_suspicious_broken_parts_bytes = 1000000000000000;

CREATE TABLE IF NOT EXISTS pulsestream.saved_searches ON CLUSTER 'main' (
  tenant_id String,
  search_id String,
  name String,
  query String,
  columns String,
  created DateTime64(6, 'UTC'),
  updated DateTime64(6, 'UTC'),
  deleted UInt8,
  version UInt64
) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/pulsestream/saved_searches', '{shard}-{replica}', version)
ORDER BY (tenant_id, search_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480, max_suspicious_broken_parts = 1000000000, max_suspicious_broken_parts_bytes = 1000000000000000;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_raw ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  tenant_id LowCardinality(String),
  file_id String,
  base_offset UInt64,
  offsets Array(UInt32),
  data String,
  observed_us Int64,
  oldest_us Int64,
  newest_us Int64,
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  labels Map(LowCardinality(String), String),
  time_fields Array(String),
  level_fields Array(String),
  message_fields Array(String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_json ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  tenant_id LowCardinality(String),
  file_id String,
  base_offset UInt64,
  offsets Array(UInt32),
  data String,
  observed_us Int64,
  oldest_us Int64,
  newest_us Int64,
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  labels Map(LowCardinality(String), String),
  time_fields Array(String),
  level_fields Array(String),
  message_fields Array(String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_raw_shaped ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  tenant_id LowCardinality(String),
  file_id String,
  base_offset UInt64,
  offsets Array(UInt32),
  data String,
  observed_us Int64,
  oldest_us Int64,
  newest_us Int64,
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  labels Map(LowCardinality(String), String),
  time_fields Array(String),
  level_fields Array(String),
  message_fields Array(String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64,
  firsts Array(UInt8),
  marks Array(Map(LowCardinality(String), String)),
  times Array(String)
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_json_shaped ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  tenant_id LowCardinality(String),
  file_id String,
  base_offset UInt64,
  offsets Array(UInt32),
  data String,
  observed_us Int64,
  oldest_us Int64,
  newest_us Int64,
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  labels Map(LowCardinality(String), String),
  time_fields Array(String),
  level_fields Array(String),
  message_fields Array(String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64,
  firsts Array(UInt8),
  marks Array(Map(LowCardinality(String), String)),
  times Array(String)
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_json_timed ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  tenant_id LowCardinality(String),
  file_id String,
  base_offset UInt64,
  offsets Array(UInt32),
  data String,
  observed_us Int64,
  oldest_us Int64,
  newest_us Int64,
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  labels Map(LowCardinality(String), String),
  time_fields Array(String),
  level_fields Array(String),
  message_fields Array(String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64,
  firsts Array(UInt8),
  marks Array(Map(LowCardinality(String), String)),
  times Array(String),
  pattern String,
  groups Array(String),
  time_pattern String,
  time_parts Array(UInt8),
  time_scale Int8,
  zone_from Array(Int64),
  zone_shift Array(Int64)
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_logfmt ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  tenant_id LowCardinality(String),
  file_id String,
  base_offset UInt64,
  offsets Array(UInt32),
  data String,
  observed_us Int64,
  oldest_us Int64,
  newest_us Int64,
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  labels Map(LowCardinality(String), String),
  time_fields Array(String),
  level_fields Array(String),
  message_fields Array(String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64,
  firsts Array(UInt8),
  marks Array(Map(LowCardinality(String), String)),
  times Array(String),
  pattern String,
  groups Array(String),
  time_pattern String,
  time_parts Array(UInt8),
  time_scale Int8,
  zone_from Array(Int64),
  zone_shift Array(Int64)
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_logfmt_timed ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  tenant_id LowCardinality(String),
  file_id String,
  base_offset UInt64,
  offsets Array(UInt32),
  data String,
  observed_us Int64,
  oldest_us Int64,
  newest_us Int64,
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  labels Map(LowCardinality(String), String),
  time_fields Array(String),
  level_fields Array(String),
  message_fields Array(String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64,
  firsts Array(UInt8),
  marks Array(Map(LowCardinality(String), String)),
  times Array(String),
  pattern String,
  groups Array(String),
  time_pattern String,
  time_parts Array(UInt8),
  time_scale Int8,
  zone_from Array(Int64),
  zone_shift Array(Int64)
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_access_log ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  tenant_id LowCardinality(String),
  file_id String,
  base_offset UInt64,
  offsets Array(UInt32),
  data String,
  observed_us Int64,
  oldest_us Int64,
  newest_us Int64,
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  labels Map(LowCardinality(String), String),
  time_fields Array(String),
  level_fields Array(String),
  message_fields Array(String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64,
  firsts Array(UInt8),
  marks Array(Map(LowCardinality(String), String)),
  times Array(String),
  pattern String,
  groups Array(String),
  time_pattern String,
  time_parts Array(UInt8),
  time_scale Int8,
  zone_from Array(Int64),
  zone_shift Array(Int64)
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_syslog ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  tenant_id LowCardinality(String),
  file_id String,
  base_offset UInt64,
  offsets Array(UInt32),
  data String,
  observed_us Int64,
  oldest_us Int64,
  newest_us Int64,
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  labels Map(LowCardinality(String), String),
  time_fields Array(String),
  level_fields Array(String),
  message_fields Array(String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64,
  firsts Array(UInt8),
  marks Array(Map(LowCardinality(String), String)),
  times Array(String),
  pattern String,
  groups Array(String),
  time_pattern String,
  time_parts Array(UInt8),
  time_scale Int8,
  zone_from Array(Int64),
  zone_shift Array(Int64)
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_klog ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  tenant_id LowCardinality(String),
  file_id String,
  base_offset UInt64,
  offsets Array(UInt32),
  data String,
  observed_us Int64,
  oldest_us Int64,
  newest_us Int64,
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  labels Map(LowCardinality(String), String),
  time_fields Array(String),
  level_fields Array(String),
  message_fields Array(String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64,
  firsts Array(UInt8),
  marks Array(Map(LowCardinality(String), String)),
  times Array(String),
  pattern String,
  groups Array(String),
  time_pattern String,
  time_parts Array(UInt8),
  time_scale Int8,
  zone_from Array(Int64),
  zone_shift Array(Int64)
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_regex ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  tenant_id LowCardinality(String),
  file_id String,
  base_offset UInt64,
  offsets Array(UInt32),
  data String,
  observed_us Int64,
  oldest_us Int64,
  newest_us Int64,
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  labels Map(LowCardinality(String), String),
  time_fields Array(String),
  level_fields Array(String),
  message_fields Array(String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64,
  firsts Array(UInt8),
  marks Array(Map(LowCardinality(String), String)),
  times Array(String),
  pattern String,
  groups Array(String),
  time_pattern String,
  time_parts Array(UInt8),
  time_scale Int8,
  zone_from Array(Int64),
  zone_shift Array(Int64)
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_regex_timed ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  tenant_id LowCardinality(String),
  file_id String,
  base_offset UInt64,
  offsets Array(UInt32),
  data String,
  observed_us Int64,
  oldest_us Int64,
  newest_us Int64,
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  labels Map(LowCardinality(String), String),
  time_fields Array(String),
  level_fields Array(String),
  message_fields Array(String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64,
  firsts Array(UInt8),
  marks Array(Map(LowCardinality(String), String)),
  times Array(String),
  pattern String,
  groups Array(String),
  time_pattern String,
  time_parts Array(UInt8),
  time_scale Int8,
  zone_from Array(Int64),
  zone_shift Array(Int64)
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_lines ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  offset UInt64,
  reason LowCardinality(String),
  note LowCardinality(String),
  tenant_id LowCardinality(String),
  external_id String,
  timestamp DateTime64(6, 'UTC'),
  observed_timestamp DateTime64(6, 'UTC'),
  event_type LowCardinality(String),
  severity LowCardinality(String),
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  message String,
  attributes Map(LowCardinality(String), String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64,
  trace_id String,
  span_id String
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_requests ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  offset UInt64,
  reason LowCardinality(String),
  note LowCardinality(String),
  tenant_id LowCardinality(String),
  external_id String,
  timestamp DateTime64(6, 'UTC'),
  observed_timestamp DateTime64(6, 'UTC'),
  event_type LowCardinality(String),
  severity LowCardinality(String),
  service LowCardinality(String),
  source LowCardinality(String),
  path LowCardinality(String),
  agent LowCardinality(String),
  message String,
  attributes Map(LowCardinality(String), String),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64,
  trace_id String,
  span_id String,
  endpoint String,
  method LowCardinality(String),
  user_id String,
  ip_address String,
  user_agent LowCardinality(String),
  status_code UInt16,
  response_time_ms Float64,
  response_size_bytes UInt64,
  zero_metrics Array(LowCardinality(String))
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS pulsestream.ingest_exceptions ON CLUSTER 'main' (
  commit_id UInt64,
  record UInt32,
  reason LowCardinality(String),
  note LowCardinality(String),
  parse_error LowCardinality(String),
  events UInt64,
  offsets Array(UInt64)
) ENGINE = Memory SETTINGS min_rows_to_keep = 1000, max_rows_to_keep = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_raw_view ON CLUSTER 'main' TO pulsestream.events AS
SELECT tenant_id, service, source, path, agent, retention_days, version, 
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
 AS external_id, observed AS timestamp, observed AS observed_timestamp,
    'log' AS event_type, 'info' AS severity, line AS message, labels AS attributes, parse_error
FROM (
    WITH 
    splitByChar('\n', data) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts

    SELECT tenant_id, service, source, path, agent, retention_days, version, file_id, labels, parse_error, parts, starts, fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed
    FROM pulsestream.ingest_raw
) ARRAY JOIN parts AS line, starts AS start;

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_json_view ON CLUSTER 'main' TO pulsestream.ingest_lines AS
WITH
    arrayElement(texts, time_at) AS time_text,
    if(match(time_text, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(time_text, ',', '.'), 6, 'UTC'), NULL) AS own,
    ifNull(own > newest, 0) AS ahead,
    transform(lower(arrayElement(texts, level_at)), ['trace', 'debug', 'verbose', 'silly', 'fine', 'finer', 'finest', 'trce', 'dbug', 'dbg', 'debug1', 'debug2', 'debug3', 'debug4', 'debug5', 'd', 't', 'v', '10', '20', '-1', '-2', '-3', '-4', '-5', '-6', '-7', '-8', '-9', '-10', 'level(-2)', 'level(-3)', 'level(-4)', 'level(-5)', 'level(-6)', 'level(-7)', 'level(-8)', 'level(-9)', 'level(-10)', 'info', 'information', 'informational', 'notice', 'log', 'config', 'http', 'inf', 'i', 'n', '30', '0', 'warn', 'warning', 'wrn', 'w', '40', 'err', 'error', 'severe', 'fail', 'failure', 'eror', 'e', '50', 'fatal', 'panic', 'dpanic', 'crit', 'critical', 'alert', 'emerg', 'emergency', 'ftl', 'f', 'c', '60'], ['debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'warning', 'warning', 'warning', 'warning', 'warning', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical'], '') AS word,
    if(isNull(own), 0, time_at) AS time_used,
    if(word = '', 0, level_at) AS level_used,
    arrayFilter((pair, i) -> i != time_used AND i != level_used AND i != message_at, pairs, arrayEnumerate(pairs))
        AS others,
    if(empty(labels), others, arrayConcat(others, arrayFilter(label -> NOT has(names, label.1), labels))) AS labelled
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, start AS offset, 
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
 AS external_id,
    if(ahead, observed, ifNull(own, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, 'older_than_retention', '') AS reason, if(ahead, 'clock_ahead', '') AS note,
    'log' AS event_type, if(word = '', 'info', word) AS severity,
    if(message_at = 0, line, arrayElement(texts, message_at)) AS message,
    CAST(if(ahead, arrayPushBack(labelled, ('original_timestamp', time_text)), labelled),
        'Map(LowCardinality(String), String)') AS attributes,
    multiIf(too_many, 'fields', empty(names) AND JSONType(line) != 'Object', 'json', time_at > 0 AND isNull(own), 'time', '') AS parse_error,
    if(length(arrayElement(texts, trace_at)) > 128, '', if(length(arrayElement(texts, trace_at)) = 55 AND startsWith(arrayElement(texts, trace_at), '00-'), substring(arrayElement(texts, trace_at), 4, 32), arrayElement(texts, trace_at))) AS trace_id,
    multiIf(length(arrayElement(texts, span_at)) > 128, '', arrayElement(texts, span_at) = '', if(length(arrayElement(texts, trace_at)) = 55 AND startsWith(arrayElement(texts, trace_at), '00-'), substring(arrayElement(texts, trace_at), 37, 16), ''), arrayElement(texts, span_at)) AS span_id
FROM (
    WITH
        JSONExtractKeysAndValues(line, 'String') AS members,
        length(members) > 1000 AS too_many,
        if(too_many, [], members) AS pairs,
        pairs.1 AS names
    SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, labels, line, start, observed, oldest, newest,
        too_many, pairs, names, pairs.2 AS texts,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), time_fields)) AS time_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), level_fields)) AS level_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), message_fields)) AS message_at,
        arrayFirstIndex(name -> name IN ('trace_id', 'traceId', 'traceID', 'traceid', 'TraceId', 'trace.id', 'trace-id', 'dd.trace_id', 'otelTraceID', 'traceparent'), names) AS trace_at,
        arrayFirstIndex(name -> name IN ('span_id', 'spanId', 'spanID', 'spanid', 'SpanId', 'span.id', 'span-id', 'dd.span_id', 'otelSpanID'), names) AS span_at
    FROM (
        WITH 
    splitByChar('\n', data) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts

        SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, parts, starts, time_fields, level_fields, message_fields,
            CAST(labels, 'Array(Tuple(String, String))') AS labels, fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed, fromUnixTimestamp64Micro(oldest_us, 'UTC') AS oldest, fromUnixTimestamp64Micro(newest_us, 'UTC') AS newest
        FROM pulsestream.ingest_json
    ) ARRAY JOIN parts AS line, starts AS start
);

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_raw_shaped_view ON CLUSTER 'main' TO pulsestream.ingest_lines AS
WITH if(match(own_time, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(own_time, ',', '.'), 6, 'UTC'), NULL) AS own, ifNull(own > newest, 0) AS ahead
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, start AS offset, 
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
 AS external_id,
    if(ahead, observed, ifNull(own, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, 'older_than_retention', '') AS reason, if(ahead, 'clock_ahead', '') AS note,
    'log' AS event_type, 'info' AS severity, line AS message,
    mapUpdate(mapUpdate(labels, mark), CAST(if(ahead, map('original_timestamp', own_time), map()),
        'Map(LowCardinality(String), String)')) AS attributes, parse_error
FROM (
    WITH 
    splitByChar('\n', data) AS pieces,
    if(empty(firsts), pieces, arrayMap(group -> arrayStringConcat(group, '\n'),
        arraySplit((piece, first) -> first, pieces, arrayResize(firsts, length(pieces), 1)))) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts,
    arrayResize(marks, length(parts)) AS own_marks,
    arrayResize(times, length(parts)) AS own_times

    SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, labels, parse_error, parts, starts, own_marks, own_times,
        fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed, fromUnixTimestamp64Micro(oldest_us, 'UTC') AS oldest, fromUnixTimestamp64Micro(newest_us, 'UTC') AS newest
    FROM pulsestream.ingest_raw_shaped
) ARRAY JOIN parts AS line, starts AS start, own_marks AS mark, own_times AS own_time;

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_json_shaped_view ON CLUSTER 'main' TO pulsestream.ingest_lines AS
WITH
    arrayElement(texts, time_at) AS time_text,
    if(match(time_text, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(time_text, ',', '.'), 6, 'UTC'), NULL) AS own,
    ifNull(own > newest, 0) AS ahead,
    transform(lower(arrayElement(texts, level_at)), ['trace', 'debug', 'verbose', 'silly', 'fine', 'finer', 'finest', 'trce', 'dbug', 'dbg', 'debug1', 'debug2', 'debug3', 'debug4', 'debug5', 'd', 't', 'v', '10', '20', '-1', '-2', '-3', '-4', '-5', '-6', '-7', '-8', '-9', '-10', 'level(-2)', 'level(-3)', 'level(-4)', 'level(-5)', 'level(-6)', 'level(-7)', 'level(-8)', 'level(-9)', 'level(-10)', 'info', 'information', 'informational', 'notice', 'log', 'config', 'http', 'inf', 'i', 'n', '30', '0', 'warn', 'warning', 'wrn', 'w', '40', 'err', 'error', 'severe', 'fail', 'failure', 'eror', 'e', '50', 'fatal', 'panic', 'dpanic', 'crit', 'critical', 'alert', 'emerg', 'emergency', 'ftl', 'f', 'c', '60'], ['debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'warning', 'warning', 'warning', 'warning', 'warning', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical'], '') AS word,
    if(isNull(own), 0, time_at) AS time_used,
    if(word = '', 0, level_at) AS level_used,
    arrayFilter((pair, i) -> i != time_used AND i != level_used AND i != message_at, pairs, arrayEnumerate(pairs))
        AS others,
    if(empty(labels), others, arrayConcat(others, arrayFilter(label -> NOT has(names, label.1), labels))) AS labelled
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, start AS offset, 
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
 AS external_id,
    if(ahead, observed, coalesce(own, by_runtime, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, 'older_than_retention', '') AS reason, if(ahead, 'clock_ahead', '') AS note,
    'log' AS event_type, if(word = '', 'info', word) AS severity,
    if(message_at = 0, line, arrayElement(texts, message_at)) AS message,
    CAST(if(ahead, arrayPushBack(labelled, ('original_timestamp', time_text)), labelled),
        'Map(LowCardinality(String), String)') AS attributes,
    multiIf(too_many, 'fields', empty(names) AND JSONType(line) != 'Object', 'json', time_at > 0 AND isNull(own), 'time', '') AS parse_error,
    if(length(arrayElement(texts, trace_at)) > 128, '', if(length(arrayElement(texts, trace_at)) = 55 AND startsWith(arrayElement(texts, trace_at), '00-'), substring(arrayElement(texts, trace_at), 4, 32), arrayElement(texts, trace_at))) AS trace_id,
    multiIf(length(arrayElement(texts, span_at)) > 128, '', arrayElement(texts, span_at) = '', if(length(arrayElement(texts, trace_at)) = 55 AND startsWith(arrayElement(texts, trace_at), '00-'), substring(arrayElement(texts, trace_at), 37, 16), ''), arrayElement(texts, span_at)) AS span_id
FROM (
    WITH
        JSONExtractKeysAndValues(line, 'String') AS members,
        length(members) > 1000 AS too_many,
        if(too_many, [], members) AS pairs,
        pairs.1 AS names
    SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, CAST(mapUpdate(block_labels, mark), 'Array(Tuple(String, String))') AS labels,
        if(match(own_time, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(own_time, ',', '.'), 6, 'UTC'), NULL) AS runtime,
        if(ifNull(runtime > newest, 0), NULL, runtime) AS by_runtime, line, start, observed, oldest, newest,
        too_many, pairs, names, pairs.2 AS texts,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), time_fields)) AS time_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), level_fields)) AS level_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), message_fields)) AS message_at,
        arrayFirstIndex(name -> name IN ('trace_id', 'traceId', 'traceID', 'traceid', 'TraceId', 'trace.id', 'trace-id', 'dd.trace_id', 'otelTraceID', 'traceparent'), names) AS trace_at,
        arrayFirstIndex(name -> name IN ('span_id', 'spanId', 'spanID', 'spanid', 'SpanId', 'span.id', 'span-id', 'dd.span_id', 'otelSpanID'), names) AS span_at
    FROM (
        WITH 
    splitByChar('\n', data) AS pieces,
    if(empty(firsts), pieces, arrayMap(group -> arrayStringConcat(group, '\n'),
        arraySplit((piece, first) -> first, pieces, arrayResize(firsts, length(pieces), 1)))) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts,
    arrayResize(marks, length(parts)) AS own_marks,
    arrayResize(times, length(parts)) AS own_times

        SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, parts, starts, time_fields, level_fields, message_fields,
            own_marks, own_times, labels AS block_labels, fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed, fromUnixTimestamp64Micro(oldest_us, 'UTC') AS oldest, fromUnixTimestamp64Micro(newest_us, 'UTC') AS newest
        FROM pulsestream.ingest_json_shaped
    ) ARRAY JOIN parts AS line, starts AS start, own_marks AS mark, own_times AS own_time
);

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_json_timed_view ON CLUSTER 'main' TO pulsestream.ingest_lines AS
WITH
    ifNull(own > newest, 0) AS ahead,
    if(empty(labels), others, arrayConcat(others, arrayFilter(label -> NOT has(names, label.1), labels))) AS labelled
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, start AS offset, 
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
 AS external_id,
    if(ahead, observed, coalesce(own, by_runtime, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, 'older_than_retention', '') AS reason, if(ahead, 'clock_ahead', '') AS note,
    'log' AS event_type, if(word = '', 'info', word) AS severity,
    if(message_at = 0 OR NOT 1, line, arrayElement(texts, message_at)) AS message,
    CAST(if(ahead, arrayPushBack(labelled, ('original_timestamp', time_text)), labelled),
        'Map(LowCardinality(String), String)') AS attributes,
    multiIf(too_many, 'fields', empty(names) AND JSONType(line) != 'Object', 'json', time_at > 0 AND isNull(own), 'time', '') AS parse_error,
    if(length(trace) > 128, '', if(length(trace) = 55 AND startsWith(trace, '00-'), substring(trace, 4, 32), trace)) AS trace_id,
    multiIf(length(span) > 128, '', span = '', if(length(trace) = 55 AND startsWith(trace, '00-'), substring(trace, 37, 16), ''), span) AS span_id
FROM (
SELECT *,
if(isNull(own), 0, time_at) AS time_used, if(word = '', 0, level_at) AS level_used,
arrayFilter((pair, i) -> i != time_used AND i != level_used AND i != message_at, pairs,
    arrayEnumerate(pairs)) AS others
FROM (
SELECT *,
if(empty(zone_from) OR isNull(wall) OR has_zone, wall, fromUnixTimestamp64Micro(toUnixTimestamp64Micro(assumeNotNull(wall)) - arrayElement(zone_shift, arrayLastIndex(since -> since <= toUnixTimestamp64Micro(assumeNotNull(wall)), zone_from)), 'UTC')) AS own
FROM (
SELECT *,
multiIf(form = '', if(match(time_text, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(time_text, ',', '.'), 6, 'UTC'), NULL), empty(told), NULL,
empty(time_parts), fromUnixTimestamp64Micro(assumeNotNull(epoch_us), 'UTC'),
full_year = '', near, parseDateTime64BestEffortOrNull(concat(full_year, after_year), 6, 'UTC')) AS wall,
multiIf(empty(zone_from), 1, form = '', match(time_text, '^\\d{10}|:\\d\\d([.,]\\d+)? ?([Zz]|UTC|GMT|[+-]\\d\\d(:?\\d\\d)?)$'), empty(time_parts) OR own_zone != '') AS has_zone
FROM (
SELECT *,
if(ifNull(late_utc > observed + INTERVAL 86400 SECOND, 0), subtractYears(late, 1), late) AS near
FROM (
SELECT *,
if(empty(zone_from) OR isNull(late) OR own_zone != '', late, fromUnixTimestamp64Micro(toUnixTimestamp64Micro(assumeNotNull(late)) - arrayElement(zone_shift, arrayLastIndex(since -> since <= toUnixTimestamp64Micro(assumeNotNull(late)), zone_from)), 'UTC')) AS late_utc
FROM (
SELECT *,
if(isNull(parseDateTime64BestEffortOrNull(concat(toString(near_year - 0), after_year), 6, 'UTC')), parseDateTime64BestEffortOrNull(concat(toString(near_year - 1), after_year), 6, 'UTC'), parseDateTime64BestEffortOrNull(concat(toString(near_year - 0), after_year), 6, 'UTC')) AS late
FROM (
SELECT *,
toYear(observed + INTERVAL 172800 SECOND) AS near_year
FROM (
SELECT *,
if(short_year = '', arrayElement(told, arrayElement(time_parts, 1)), concat(if(short_year < '69', '20', '19'), short_year)) AS full_year,
concat('-', leftPad(transform(lower(substring(month, 1, 3)), ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'], ['01', '02', '03', '04', '05', '06', '07', '08', '09', '10', '11', '12'], month), 2, '0'), '-', leftPad(trimLeft(arrayElement(told, arrayElement(time_parts, 3))), 2, '0'), ' ', leftPad(trimLeft(arrayElement(told, arrayElement(time_parts, 4))), 2, '0'), ':',
leftPad(trimLeft(arrayElement(told, arrayElement(time_parts, 5))), 2, '0'), ':',
leftPad(trimLeft(arrayElement(told, arrayElement(time_parts, 6))), 2, '0'), if(fraction = '', '', concat('.', fraction)), ' ', arrayElement(told, arrayElement(time_parts, 8)),
if(own_zone IN ('', 'z', 'Z', 'UTC', 'GMT'), '', concat(' ', own_zone))) AS after_year,
toInt64OrNull(concat('0', substring(concat(arrayElement(told, 1), rightPad(arrayElement(told, 2), 9, '0')), 1,
greatest(length(arrayElement(told, 1)) + time_scale, 0)))) AS epoch_us
FROM (
SELECT *,
arrayElement(told, arrayElement(time_parts, 10)) AS short_year, arrayElement(told, arrayElement(time_parts, 7)) AS fraction, arrayElement(told, arrayElement(time_parts, 9)) AS own_zone,
arrayElement(told, arrayElement(time_parts, 2)) AS month
FROM (
SELECT *,
ifNull((SELECT any(time_pattern) FROM pulsestream.ingest_json_timed), '') AS form, extractGroups(time_text, if(ifNull((SELECT any(time_pattern) FROM pulsestream.ingest_json_timed), '') = '', '()', ifNull((SELECT any(time_pattern) FROM pulsestream.ingest_json_timed), ''))) AS told
FROM (
SELECT *,
arrayElement(texts, time_at) AS time_text,
arrayElement(texts, trace_at) AS trace, arrayElement(texts, span_at) AS span,
transform(lower(arrayElement(texts, level_at)), ['trace', 'debug', 'verbose', 'silly', 'fine', 'finer', 'finest', 'trce', 'dbug', 'dbg', 'debug1', 'debug2', 'debug3', 'debug4', 'debug5', 'd', 't', 'v', '10', '20', '-1', '-2', '-3', '-4', '-5', '-6', '-7', '-8', '-9', '-10', 'level(-2)', 'level(-3)', 'level(-4)', 'level(-5)', 'level(-6)', 'level(-7)', 'level(-8)', 'level(-9)', 'level(-10)', 'info', 'information', 'informational', 'notice', 'log', 'config', 'http', 'inf', 'i', 'n', '30', '0', 'warn', 'warning', 'wrn', 'w', '40', 'err', 'error', 'severe', 'fail', 'failure', 'eror', 'e', '50', 'fatal', 'panic', 'dpanic', 'crit', 'critical', 'alert', 'emerg', 'emergency', 'ftl', 'f', 'c', '60'], ['debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'warning', 'warning', 'warning', 'warning', 'warning', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical'], '') AS word
FROM (
SELECT *,
arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), time_fields)) AS time_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), level_fields)) AS level_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), message_fields)) AS message_at,
        arrayFirstIndex(name -> name IN ('trace_id', 'traceId', 'traceID', 'traceid', 'TraceId', 'trace.id', 'trace-id', 'dd.trace_id', 'otelTraceID', 'traceparent'), names) AS trace_at,
        arrayFirstIndex(name -> name IN ('span_id', 'spanId', 'spanID', 'spanid', 'SpanId', 'span.id', 'span-id', 'dd.span_id', 'otelSpanID'), names) AS span_at
FROM (
SELECT *,
pairs.1 AS names, pairs.2 AS texts
FROM (
SELECT *,
length(members) > 1000 AS too_many, if(too_many, [], members) AS pairs
FROM (
SELECT *,
JSONExtractKeysAndValues(line, 'String') AS members
FROM (
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, line, start, observed, oldest, newest, time_fields, level_fields, message_fields, time_parts, time_scale, zone_from, zone_shift,
    CAST(mapUpdate(block_labels, mark), 'Array(Tuple(String, String))') AS labels,
    if(match(own_time, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(own_time, ',', '.'), 6, 'UTC'), NULL) AS runtime,
        if(ifNull(runtime > newest, 0), NULL, runtime) AS by_runtime
FROM (
    WITH 
    splitByChar('\n', data) AS pieces,
    if(empty(firsts), pieces, arrayMap(group -> arrayStringConcat(group, '\n'),
        arraySplit((piece, first) -> first, pieces, arrayResize(firsts, length(pieces), 1)))) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts,
    arrayResize(marks, length(parts)) AS own_marks,
    arrayResize(times, length(parts)) AS own_times

    SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, parts, starts, own_marks, own_times, labels AS block_labels, time_fields, level_fields, message_fields, time_parts, time_scale, zone_from, zone_shift,
        fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed, fromUnixTimestamp64Micro(oldest_us, 'UTC') AS oldest, fromUnixTimestamp64Micro(newest_us, 'UTC') AS newest
    FROM pulsestream.ingest_json_timed
) ARRAY JOIN parts AS line, starts AS start, own_marks AS mark, own_times AS own_time
)
)
)
)
)
)
)
)
)
)
)
)
)
)
)
);

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_logfmt_view ON CLUSTER 'main' TO pulsestream.ingest_lines AS
WITH
    ifNull(own > newest, 0) AS ahead,
    if(empty(labels), others, arrayConcat(others, arrayFilter(label -> NOT has(names, label.1), labels))) AS labelled
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, start AS offset, 
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
 AS external_id,
    if(ahead, observed, coalesce(own, by_runtime, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, 'older_than_retention', '') AS reason, if(ahead, 'clock_ahead', '') AS note,
    'log' AS event_type, if(word = '', 'info', word) AS severity,
    if(message_at = 0 OR NOT valid, line, arrayElement(texts, message_at)) AS message,
    CAST(if(ahead, arrayPushBack(labelled, ('original_timestamp', time_text)), labelled),
        'Map(LowCardinality(String), String)') AS attributes,
    multiIf(too_many, 'fields', NOT begins, 'logfmt', time_at > 0 AND isNull(own), 'time', '') AS parse_error,
    if(length(trace) > 128, '', if(length(trace) = 55 AND startsWith(trace, '00-'), substring(trace, 4, 32), trace)) AS trace_id,
    multiIf(length(span) > 128, '', span = '', if(length(trace) = 55 AND startsWith(trace, '00-'), substring(trace, 37, 16), ''), span) AS span_id
FROM (
SELECT *,
if(isNull(own), 0, time_at) AS time_used, if(word = '', 0, level_at) AS level_used,
arrayFilter((pair, i) -> i != time_used AND i != level_used AND i != message_at, pairs,
    arrayEnumerate(pairs)) AS others
FROM (
SELECT *,
if(empty(zone_from) OR isNull(wall) OR match(time_text, '^\\d{10}|:\\d\\d([.,]\\d+)? ?([Zz]|UTC|GMT|[+-]\\d\\d(:?\\d\\d)?)$'), wall, fromUnixTimestamp64Micro(toUnixTimestamp64Micro(assumeNotNull(wall)) - arrayElement(zone_shift, arrayLastIndex(since -> since <= toUnixTimestamp64Micro(assumeNotNull(wall)), zone_from)), 'UTC')) AS own
FROM (
SELECT *,
if(match(time_text, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(time_text, ',', '.'), 6, 'UTC'), NULL) AS wall
FROM (
SELECT *,
arrayElement(texts, time_at) AS time_text,
arrayElement(texts, trace_at) AS trace, arrayElement(texts, span_at) AS span,
transform(lower(arrayElement(texts, level_at)), ['trace', 'debug', 'verbose', 'silly', 'fine', 'finer', 'finest', 'trce', 'dbug', 'dbg', 'debug1', 'debug2', 'debug3', 'debug4', 'debug5', 'd', 't', 'v', '10', '20', '-1', '-2', '-3', '-4', '-5', '-6', '-7', '-8', '-9', '-10', 'level(-2)', 'level(-3)', 'level(-4)', 'level(-5)', 'level(-6)', 'level(-7)', 'level(-8)', 'level(-9)', 'level(-10)', 'info', 'information', 'informational', 'notice', 'log', 'config', 'http', 'inf', 'i', 'n', '30', '0', 'warn', 'warning', 'wrn', 'w', '40', 'err', 'error', 'severe', 'fail', 'failure', 'eror', 'e', '50', 'fatal', 'panic', 'dpanic', 'crit', 'critical', 'alert', 'emerg', 'emergency', 'ftl', 'f', 'c', '60'], ['debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'warning', 'warning', 'warning', 'warning', 'warning', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical'], '') AS word
FROM (
SELECT *,
arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), time_fields)) AS time_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), level_fields)) AS level_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), message_fields)) AS message_at,
        arrayFirstIndex(name -> name IN ('trace_id', 'traceId', 'traceID', 'traceid', 'TraceId', 'trace.id', 'trace-id', 'dd.trace_id', 'otelTraceID', 'traceparent'), names) AS trace_at,
        arrayFirstIndex(name -> name IN ('span_id', 'spanId', 'spanID', 'spanid', 'SpanId', 'span.id', 'span-id', 'dd.span_id', 'otelSpanID'), names) AS span_at
FROM (
SELECT *,
pairs.1 AS names, pairs.2 AS texts
FROM (
SELECT *,
length(members) > 1000 AS too_many, if(too_many, [], members) AS pairs
FROM (
SELECT *,
if(begins, arrayMap(pair -> (arrayElement(pair, 1), if(position(text, '\\') = 0, if(arrayElement(pair, 2) = '', 'true', concat(arrayElement(pair, 4), arrayElement(pair, 3))), if(arrayElement(pair, 2) = '', 'true', concat(arrayElement(pair, 4), if(JSONExtractString(concat('"', arrayElement(pair, 3), '"')) = '', arrayElement(pair, 3), JSONExtractString(concat('"', arrayElement(pair, 3), '"'))))))),
            extractAllGroupsVertical(text, '([^\\s="]+)(?:(=)(?:"((?:[^"\\\\]|\\\\.)*)"|(\\S*)))?')), []) AS members
FROM (
SELECT *,
if(valid, line, toValidUTF8(line)) AS text, match(text, '^\\s*[^\\s=\\"]+=') AS begins
FROM (
SELECT *,
isValidUTF8(line) AS valid
FROM (
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, line, start, observed, oldest, newest, time_fields, level_fields, message_fields, zone_from, zone_shift,
    CAST(mapUpdate(block_labels, mark), 'Array(Tuple(String, String))') AS labels,
    if(match(own_time, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(own_time, ',', '.'), 6, 'UTC'), NULL) AS runtime,
        if(ifNull(runtime > newest, 0), NULL, runtime) AS by_runtime
FROM (
    WITH 
    splitByChar('\n', data) AS pieces,
    if(empty(firsts), pieces, arrayMap(group -> arrayStringConcat(group, '\n'),
        arraySplit((piece, first) -> first, pieces, arrayResize(firsts, length(pieces), 1)))) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts,
    arrayResize(marks, length(parts)) AS own_marks,
    arrayResize(times, length(parts)) AS own_times

    SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, parts, starts, own_marks, own_times, labels AS block_labels, time_fields, level_fields, message_fields, zone_from, zone_shift,
        fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed, fromUnixTimestamp64Micro(oldest_us, 'UTC') AS oldest, fromUnixTimestamp64Micro(newest_us, 'UTC') AS newest
    FROM pulsestream.ingest_logfmt
) ARRAY JOIN parts AS line, starts AS start, own_marks AS mark, own_times AS own_time
)
)
)
)
)
)
)
)
)
)
);

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_logfmt_timed_view ON CLUSTER 'main' TO pulsestream.ingest_lines AS
WITH
    ifNull(own > newest, 0) AS ahead,
    if(empty(labels), others, arrayConcat(others, arrayFilter(label -> NOT has(names, label.1), labels))) AS labelled
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, start AS offset, 
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
 AS external_id,
    if(ahead, observed, coalesce(own, by_runtime, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, 'older_than_retention', '') AS reason, if(ahead, 'clock_ahead', '') AS note,
    'log' AS event_type, if(word = '', 'info', word) AS severity,
    if(message_at = 0 OR NOT valid, line, arrayElement(texts, message_at)) AS message,
    CAST(if(ahead, arrayPushBack(labelled, ('original_timestamp', time_text)), labelled),
        'Map(LowCardinality(String), String)') AS attributes,
    multiIf(too_many, 'fields', NOT begins, 'logfmt', time_at > 0 AND isNull(own), 'time', '') AS parse_error,
    if(length(trace) > 128, '', if(length(trace) = 55 AND startsWith(trace, '00-'), substring(trace, 4, 32), trace)) AS trace_id,
    multiIf(length(span) > 128, '', span = '', if(length(trace) = 55 AND startsWith(trace, '00-'), substring(trace, 37, 16), ''), span) AS span_id
FROM (
SELECT *,
if(isNull(own), 0, time_at) AS time_used, if(word = '', 0, level_at) AS level_used,
arrayFilter((pair, i) -> i != time_used AND i != level_used AND i != message_at, pairs,
    arrayEnumerate(pairs)) AS others
FROM (
SELECT *,
if(empty(zone_from) OR isNull(wall) OR has_zone, wall, fromUnixTimestamp64Micro(toUnixTimestamp64Micro(assumeNotNull(wall)) - arrayElement(zone_shift, arrayLastIndex(since -> since <= toUnixTimestamp64Micro(assumeNotNull(wall)), zone_from)), 'UTC')) AS own
FROM (
SELECT *,
multiIf(form = '', if(match(time_text, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(time_text, ',', '.'), 6, 'UTC'), NULL), empty(told), NULL,
empty(time_parts), fromUnixTimestamp64Micro(assumeNotNull(epoch_us), 'UTC'),
full_year = '', near, parseDateTime64BestEffortOrNull(concat(full_year, after_year), 6, 'UTC')) AS wall,
multiIf(empty(zone_from), 1, form = '', match(time_text, '^\\d{10}|:\\d\\d([.,]\\d+)? ?([Zz]|UTC|GMT|[+-]\\d\\d(:?\\d\\d)?)$'), empty(time_parts) OR own_zone != '') AS has_zone
FROM (
SELECT *,
if(ifNull(late_utc > observed + INTERVAL 86400 SECOND, 0), subtractYears(late, 1), late) AS near
FROM (
SELECT *,
if(empty(zone_from) OR isNull(late) OR own_zone != '', late, fromUnixTimestamp64Micro(toUnixTimestamp64Micro(assumeNotNull(late)) - arrayElement(zone_shift, arrayLastIndex(since -> since <= toUnixTimestamp64Micro(assumeNotNull(late)), zone_from)), 'UTC')) AS late_utc
FROM (
SELECT *,
if(isNull(parseDateTime64BestEffortOrNull(concat(toString(near_year - 0), after_year), 6, 'UTC')), parseDateTime64BestEffortOrNull(concat(toString(near_year - 1), after_year), 6, 'UTC'), parseDateTime64BestEffortOrNull(concat(toString(near_year - 0), after_year), 6, 'UTC')) AS late
FROM (
SELECT *,
toYear(observed + INTERVAL 172800 SECOND) AS near_year
FROM (
SELECT *,
if(short_year = '', arrayElement(told, arrayElement(time_parts, 1)), concat(if(short_year < '69', '20', '19'), short_year)) AS full_year,
concat('-', leftPad(transform(lower(substring(month, 1, 3)), ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'], ['01', '02', '03', '04', '05', '06', '07', '08', '09', '10', '11', '12'], month), 2, '0'), '-', leftPad(trimLeft(arrayElement(told, arrayElement(time_parts, 3))), 2, '0'), ' ', leftPad(trimLeft(arrayElement(told, arrayElement(time_parts, 4))), 2, '0'), ':',
leftPad(trimLeft(arrayElement(told, arrayElement(time_parts, 5))), 2, '0'), ':',
leftPad(trimLeft(arrayElement(told, arrayElement(time_parts, 6))), 2, '0'), if(fraction = '', '', concat('.', fraction)), ' ', arrayElement(told, arrayElement(time_parts, 8)),
if(own_zone IN ('', 'z', 'Z', 'UTC', 'GMT'), '', concat(' ', own_zone))) AS after_year,
toInt64OrNull(concat('0', substring(concat(arrayElement(told, 1), rightPad(arrayElement(told, 2), 9, '0')), 1,
greatest(length(arrayElement(told, 1)) + time_scale, 0)))) AS epoch_us
FROM (
SELECT *,
arrayElement(told, arrayElement(time_parts, 10)) AS short_year, arrayElement(told, arrayElement(time_parts, 7)) AS fraction, arrayElement(told, arrayElement(time_parts, 9)) AS own_zone,
arrayElement(told, arrayElement(time_parts, 2)) AS month
FROM (
SELECT *,
ifNull((SELECT any(time_pattern) FROM pulsestream.ingest_logfmt_timed), '') AS form, extractGroups(time_text, if(ifNull((SELECT any(time_pattern) FROM pulsestream.ingest_logfmt_timed), '') = '', '()', ifNull((SELECT any(time_pattern) FROM pulsestream.ingest_logfmt_timed), ''))) AS told
FROM (
SELECT *,
arrayElement(texts, time_at) AS time_text,
arrayElement(texts, trace_at) AS trace, arrayElement(texts, span_at) AS span,
transform(lower(arrayElement(texts, level_at)), ['trace', 'debug', 'verbose', 'silly', 'fine', 'finer', 'finest', 'trce', 'dbug', 'dbg', 'debug1', 'debug2', 'debug3', 'debug4', 'debug5', 'd', 't', 'v', '10', '20', '-1', '-2', '-3', '-4', '-5', '-6', '-7', '-8', '-9', '-10', 'level(-2)', 'level(-3)', 'level(-4)', 'level(-5)', 'level(-6)', 'level(-7)', 'level(-8)', 'level(-9)', 'level(-10)', 'info', 'information', 'informational', 'notice', 'log', 'config', 'http', 'inf', 'i', 'n', '30', '0', 'warn', 'warning', 'wrn', 'w', '40', 'err', 'error', 'severe', 'fail', 'failure', 'eror', 'e', '50', 'fatal', 'panic', 'dpanic', 'crit', 'critical', 'alert', 'emerg', 'emergency', 'ftl', 'f', 'c', '60'], ['debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'warning', 'warning', 'warning', 'warning', 'warning', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical'], '') AS word
FROM (
SELECT *,
arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), time_fields)) AS time_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), level_fields)) AS level_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), message_fields)) AS message_at,
        arrayFirstIndex(name -> name IN ('trace_id', 'traceId', 'traceID', 'traceid', 'TraceId', 'trace.id', 'trace-id', 'dd.trace_id', 'otelTraceID', 'traceparent'), names) AS trace_at,
        arrayFirstIndex(name -> name IN ('span_id', 'spanId', 'spanID', 'spanid', 'SpanId', 'span.id', 'span-id', 'dd.span_id', 'otelSpanID'), names) AS span_at
FROM (
SELECT *,
pairs.1 AS names, pairs.2 AS texts
FROM (
SELECT *,
length(members) > 1000 AS too_many, if(too_many, [], members) AS pairs
FROM (
SELECT *,
if(begins, arrayMap(pair -> (arrayElement(pair, 1), if(position(text, '\\') = 0, if(arrayElement(pair, 2) = '', 'true', concat(arrayElement(pair, 4), arrayElement(pair, 3))), if(arrayElement(pair, 2) = '', 'true', concat(arrayElement(pair, 4), if(JSONExtractString(concat('"', arrayElement(pair, 3), '"')) = '', arrayElement(pair, 3), JSONExtractString(concat('"', arrayElement(pair, 3), '"'))))))),
            extractAllGroupsVertical(text, '([^\\s="]+)(?:(=)(?:"((?:[^"\\\\]|\\\\.)*)"|(\\S*)))?')), []) AS members
FROM (
SELECT *,
if(valid, line, toValidUTF8(line)) AS text, match(text, '^\\s*[^\\s=\\"]+=') AS begins
FROM (
SELECT *,
isValidUTF8(line) AS valid
FROM (
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, line, start, observed, oldest, newest, time_fields, level_fields, message_fields, time_parts, time_scale, zone_from, zone_shift,
    CAST(mapUpdate(block_labels, mark), 'Array(Tuple(String, String))') AS labels,
    if(match(own_time, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(own_time, ',', '.'), 6, 'UTC'), NULL) AS runtime,
        if(ifNull(runtime > newest, 0), NULL, runtime) AS by_runtime
FROM (
    WITH 
    splitByChar('\n', data) AS pieces,
    if(empty(firsts), pieces, arrayMap(group -> arrayStringConcat(group, '\n'),
        arraySplit((piece, first) -> first, pieces, arrayResize(firsts, length(pieces), 1)))) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts,
    arrayResize(marks, length(parts)) AS own_marks,
    arrayResize(times, length(parts)) AS own_times

    SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, parts, starts, own_marks, own_times, labels AS block_labels, time_fields, level_fields, message_fields, time_parts, time_scale, zone_from, zone_shift,
        fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed, fromUnixTimestamp64Micro(oldest_us, 'UTC') AS oldest, fromUnixTimestamp64Micro(newest_us, 'UTC') AS newest
    FROM pulsestream.ingest_logfmt_timed
) ARRAY JOIN parts AS line, starts AS start, own_marks AS mark, own_times AS own_time
)
)
)
)
)
)
)
)
)
)
)
)
)
)
)
)
)
);

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_access_log_view ON CLUSTER 'main' TO pulsestream.ingest_requests AS
WITH
    ifNull(own > newest, 0) AS ahead,
    if(empty(labels), others, arrayConcat(others, arrayFilter(label -> NOT has(names, label.1), labels))) AS labelled
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, start AS offset, 
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
 AS external_id,
    if(ahead, observed, coalesce(own, by_runtime, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, 'older_than_retention', '') AS reason, if(ahead, 'clock_ahead', '') AS note,
    'log' AS event_type, if(word = '', 'info', word) AS severity,
    line AS message,
    CAST(if(ahead, arrayPushBack(labelled, ('original_timestamp', time_text)), labelled),
        'Map(LowCardinality(String), String)') AS attributes,
    multiIf(empty(groups), 'access_log', isNull(own), 'time', '') AS parse_error,
    place AS endpoint,
    verb AS method,
    if(arrayElement(groups, 4) = '-', '', arrayElement(groups, 4)) AS user_id,
    if(arrayElement(groups, 2) = '-', '', arrayElement(groups, 2)) AS ip_address,
    if(client = '-', '', client) AS user_agent,
    status AS status_code,
    toFloat64OrZero(extract(rest, '(?:^| )"?(?:(?:rt|request_time)=)?"?(\\d{1,9}\\.\\d{1,9})"?(?: |$)')) * 1000 AS response_time_ms,
    toUInt64OrZero(size) AS response_size_bytes,
    CAST(if(size = '0', ['response_size_bytes'], []), 'Array(LowCardinality(String))') AS zero_metrics
FROM (
SELECT *,
if(empty(zone_from) OR isNull(wall) OR has_zone, wall, fromUnixTimestamp64Micro(toUnixTimestamp64Micro(assumeNotNull(wall)) - arrayElement(zone_shift, arrayLastIndex(since -> since <= toUnixTimestamp64Micro(assumeNotNull(wall)), zone_from)), 'UTC')) AS own, others.1 AS names
FROM (
SELECT *,
if(usual, parseDateTime64BestEffortOrNull(iso_text, 6, 'UTC'), if(match(time_text, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(time_text, ',', '.'), 6, 'UTC'), NULL)) AS wall,
multiIf(empty(zone_from), 1, usual, substring(time_text, -5, 1) IN ('+', '-'), match(time_text, '^\\d{10}|:\\d\\d([.,]\\d+)? ?([Zz]|UTC|GMT|[+-]\\d\\d(:?\\d\\d)?)$')) AS has_zone,
multiIf(status >= 500, 'error', status >= 400, 'warning', '') AS word,
arrayFilter(pair -> pair.2 NOT IN ('', '-'), [
    ('vhost', arrayElement(groups, 1)), ('ident', arrayElement(groups, 3)), ('request', if(verb = '', request, '')),
    ('query', substring(target, length(place) + 2)), ('protocol', protocol),
    ('referer', referer), ('rest', rest)]) AS others
FROM (
SELECT *,
substringIndex(target, '?', 1) AS place, match(time_text, '^\\d\\d/[A-Z][a-z]{2}/\\d{4}:([01]\\d|2[0-3]):[0-5]\\d:[0-6]\\d(\\.\\d{1,9})?( [+-]\\d{4})?$') AS usual,
concat(substring(time_text, 8, 4), '-', transform(lower(substring(substring(time_text, 4, 3), 1, 3)), ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'], ['01', '02', '03', '04', '05', '06', '07', '08', '09', '10', '11', '12'], substring(time_text, 4, 3)), '-', substring(time_text, 1, 2), ' ',
    substring(time_text, 13)) AS iso_text
FROM (
SELECT *,
if(verb = '', '', substring(request, length(verb) + 2,
length(request) - length(verb) - 1 - if(protocol = '', 0, length(protocol) + 1))) AS target
FROM (
SELECT *,
if(verb = '', '', extract(request, ' (HTTP/[0-9.]+)$')) AS protocol
FROM (
SELECT *,
if(match(request, '^[A-Za-z_-]{1,20} \\S'), substringIndex(request, ' ', 1), '') AS verb
FROM (
SELECT *,
arrayElement(groups, 5) AS time_text, if(position(arrayElement(groups, 6), '\\') = 0, arrayElement(groups, 6), replaceAll(replaceAll(replaceAll(arrayElement(groups, 6), '\\"', '"'), '\\x22', '"'), '\\\\', '\\')) AS request,
toUInt16OrZero(arrayElement(groups, 7)) AS status, arrayElement(groups, 8) AS size, trimLeft(arrayElement(groups, 11)) AS rest,
if(position(arrayElement(groups, 9), '\\') = 0, arrayElement(groups, 9), replaceAll(replaceAll(replaceAll(arrayElement(groups, 9), '\\"', '"'), '\\x22', '"'), '\\\\', '\\')) AS referer, if(position(arrayElement(groups, 10), '\\') = 0, arrayElement(groups, 10), replaceAll(replaceAll(replaceAll(arrayElement(groups, 10), '\\"', '"'), '\\x22', '"'), '\\\\', '\\')) AS client
FROM (
SELECT *,
if(empty(strict), extractGroups(text, '^(?:(\\S+:\\d+) )?(\\S+) (\\S+) (.*?) \\[([^\\]]+)\\] "(.*?)" ([0-9]{3}|-) ([0-9]+|-)(?: "(.*?)" "(.*?)")?((?: [^" ]+(?:"[^"]*")?| "[^"]*")*)\\s*$'), strict) AS groups
FROM (
SELECT *,
extractGroups(text, '^()([^ "]+) ([^ "]+) ([^ "]+) \\[([^\\]"]+)\\] "([^"\\\\]*)" ([0-9]{3}) ([0-9]+|-)(?: "([^"\\\\]*)" "([^"\\\\]*)")?((?: [^" ]+(?:"[^"]*")?| "[^"]*")*)$') AS strict
FROM (
SELECT *,
if(isValidUTF8(line), line, toValidUTF8(line)) AS text
FROM (
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, line, start, observed, oldest, newest, zone_from, zone_shift,
    CAST(mapUpdate(block_labels, mark), 'Array(Tuple(String, String))') AS labels,
    if(match(own_time, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(own_time, ',', '.'), 6, 'UTC'), NULL) AS runtime,
        if(ifNull(runtime > newest, 0), NULL, runtime) AS by_runtime
FROM (
    WITH 
    splitByChar('\n', data) AS pieces,
    if(empty(firsts), pieces, arrayMap(group -> arrayStringConcat(group, '\n'),
        arraySplit((piece, first) -> first, pieces, arrayResize(firsts, length(pieces), 1)))) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts,
    arrayResize(marks, length(parts)) AS own_marks,
    arrayResize(times, length(parts)) AS own_times

    SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, parts, starts, own_marks, own_times, labels AS block_labels, zone_from, zone_shift,
        fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed, fromUnixTimestamp64Micro(oldest_us, 'UTC') AS oldest, fromUnixTimestamp64Micro(newest_us, 'UTC') AS newest
    FROM pulsestream.ingest_access_log
) ARRAY JOIN parts AS line, starts AS start, own_marks AS mark, own_times AS own_time
)
)
)
)
)
)
)
)
)
)
);

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_syslog_view ON CLUSTER 'main' TO pulsestream.ingest_lines AS
WITH
    ifNull(own > newest, 0) AS ahead,
    if(empty(labels), others, arrayConcat(others, arrayFilter(label -> NOT has(names, label.1), labels))) AS labelled
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, start AS offset, 
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
 AS external_id,
    if(ahead, observed, coalesce(own, by_runtime, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, 'older_than_retention', '') AS reason, if(ahead, 'clock_ahead', '') AS note,
    'log' AS event_type, if(word = '', 'info', word) AS severity,
    substring(line, header + 1) AS message,
    CAST(if(ahead, arrayPushBack(labelled, ('original_timestamp', time_text)), labelled),
        'Map(LowCardinality(String), String)') AS attributes,
    multiIf(wrong, 'syslog', isNull(own) AND time_text != '-', 'time', '') AS parse_error
FROM (
SELECT *,
if(empty(zone_from) OR isNull(wall) OR has_zone, wall, fromUnixTimestamp64Micro(toUnixTimestamp64Micro(assumeNotNull(wall)) - arrayElement(zone_shift, arrayLastIndex(since -> since <= toUnixTimestamp64Micro(assumeNotNull(wall)), zone_from)), 'UTC')) AS own, others.1 AS names
FROM (
SELECT *,
multiIf(wrong, NULL, old_time = '', if(match(iso_time, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(iso_time, ',', '.'), 6, 'UTC'), NULL),
    has_year, parseDateTime64BestEffortOrNull(concat(substring(old_time, 8, 4), after_year), 6, 'UTC'), near) AS wall,
multiIf(empty(zone_from), 1, old_time = '', match(iso_time, '^\\d{10}|:\\d\\d([.,]\\d+)? ?([Zz]|UTC|GMT|[+-]\\d\\d(:?\\d\\d)?)$'), 0) AS has_zone,
if(has_priority, arrayElement(['critical', 'critical', 'critical', 'error', 'warning', 'info', 'info', 'debug'], priority % 8 + 1), '') AS word,
arrayFilter(pair -> pair.2 NOT IN ('', '-'), arrayConcat(said,
    [('facility', if(has_priority, arrayElement(['kern', 'user', 'mail', 'daemon', 'auth', 'syslog', 'lpr', 'news', 'uucp', 'cron', 'authpriv', 'ftp', 'ntp', 'audit', 'alert', 'clock', 'local0', 'local1', 'local2', 'local3', 'local4', 'local5', 'local6', 'local7'], intDiv(priority, 8) + 1), ''))],
    more_pairs)) AS others
FROM (
SELECT *,
if(ifNull(late_utc > observed + INTERVAL 86400 SECOND, 0), subtractYears(late, 1), late) AS near
FROM (
SELECT *,
if(empty(zone_from) OR isNull(late) OR 0, late, fromUnixTimestamp64Micro(toUnixTimestamp64Micro(assumeNotNull(late)) - arrayElement(zone_shift, arrayLastIndex(since -> since <= toUnixTimestamp64Micro(assumeNotNull(late)), zone_from)), 'UTC')) AS late_utc
FROM (
SELECT *,
if(isNull(parseDateTime64BestEffortOrNull(concat(toString(near_year - 0), after_year), 6, 'UTC')), parseDateTime64BestEffortOrNull(concat(toString(near_year - 1), after_year), 6, 'UTC'), parseDateTime64BestEffortOrNull(concat(toString(near_year - 0), after_year), 6, 'UTC')) AS late
FROM (
SELECT *,
toYear(observed + INTERVAL 172800 SECOND) AS near_year
FROM (
SELECT *,
priority_text != '' AND priority < 192 AS has_priority,
concat('-', transform(lower(substring(substring(old_time, 1, 3), 1, 3)), ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'], ['01', '02', '03', '04', '05', '06', '07', '08', '09', '10', '11', '12'], substring(old_time, 1, 3)), '-', leftPad(trimLeft(substring(old_time, 5, 2)), 2, '0'), ' ',
    substring(old_time, if(has_year, 13, 8))) AS after_year, arrayFilter(pair -> pair.1 != '', arrayMap((parameter, id) ->
    (if(arrayElement(parameter, 2) = '', '', concat(id, '.', arrayElement(parameter, 2))), replaceRegexpAll(arrayElement(parameter, 3), '\\\\(["\\\\\\]])', '\\1')),
    parameters, arrayFill(id -> id != '', arrayMap(parameter -> arrayElement(parameter, 1), parameters)))) AS more_pairs
FROM (
SELECT *,
if(old_time = '', iso_time, old_time) AS time_text, toUInt16OrZero(priority_text) AS priority,
match(old_time, '^.{7}\\d{4} ') AS has_year, if(data IN ('', '-'), [], extractAllGroupsVertical(data, '\\[([^ \\]="]+)| ([^ \\]="]+)="((?:[^"\\\\]|\\\\.)*)"')) AS parameters
FROM (
SELECT *,
empty(new) AND empty(old) AS wrong, length(if(is_old, arrayElement(old, 1), arrayElement(new, 1))) AS header,
if(is_old, arrayElement(old, 2), arrayElement(new, 2)) AS priority_text, arrayElement(old, 3) AS old_time,
if(is_old, arrayElement(old, 4), arrayElement(new, 3)) AS iso_time, arrayElement(new, 8) AS data,
[('host', if(is_old, arrayElement(old, 5), arrayElement(new, 4))),
 ('app', if(is_old, arrayElement(old, 6), arrayElement(new, 5))),
 ('pid', if(is_old, arrayElement(old, 7), arrayElement(new, 6))), ('msgid', arrayElement(new, 7))] AS said
FROM (
SELECT *,
if(empty(new), extractGroups(line, '^((?:<(\\d{1,3})>)?(?:((?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-3]\\d(?: \\d{4})? (?:[01]\\d|2[0-3]):[0-5]\\d:[0-6]\\d(?:\\.\\d{1,9})?)|(\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(?:\\.\\d{1,9})?(?:Z|[+-]\\d\\d:\\d\\d)?))(?: ([^\\s\\[\\]]*[^\\s\\[\\]:]))?(?: ([^\\s:\\[\\]]+)(?:\\[([^\\]\\s]*)\\])?:)?(?: |$))'), []) AS old, empty(new) AS is_old
FROM (
SELECT *,
if(match(line, '^<\\d{1,3}>\\d{1,2} \\S'), extractGroups(line, '^(<(\\d{1,3})>\\d{1,2} (\\S+) (\\S+) (\\S+) (\\S+) (\\S+) (-|(?:\\[[^ \\]="]+(?: +[^ \\]="]+="(?:[^"\\\\]|\\\\.)*")*\\])+)(?: \\x{FEFF}?|$))'), []) AS new
FROM (
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, line, start, observed, oldest, newest, zone_from, zone_shift,
    CAST(mapUpdate(block_labels, mark), 'Array(Tuple(String, String))') AS labels,
    if(match(own_time, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(own_time, ',', '.'), 6, 'UTC'), NULL) AS runtime,
        if(ifNull(runtime > newest, 0), NULL, runtime) AS by_runtime
FROM (
    WITH 
    splitByChar('\n', data) AS pieces,
    if(empty(firsts), pieces, arrayMap(group -> arrayStringConcat(group, '\n'),
        arraySplit((piece, first) -> first, pieces, arrayResize(firsts, length(pieces), 1)))) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts,
    arrayResize(marks, length(parts)) AS own_marks,
    arrayResize(times, length(parts)) AS own_times

    SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, parts, starts, own_marks, own_times, labels AS block_labels, zone_from, zone_shift,
        fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed, fromUnixTimestamp64Micro(oldest_us, 'UTC') AS oldest, fromUnixTimestamp64Micro(newest_us, 'UTC') AS newest
    FROM pulsestream.ingest_syslog
) ARRAY JOIN parts AS line, starts AS start, own_marks AS mark, own_times AS own_time
)
)
)
)
)
)
)
)
)
)
)
);

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_klog_view ON CLUSTER 'main' TO pulsestream.ingest_lines AS
WITH
    ifNull(own > newest, 0) AS ahead,
    if(empty(labels), others, arrayConcat(others, arrayFilter(label -> NOT has(names, label.1), labels))) AS labelled
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, start AS offset, 
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
 AS external_id,
    if(ahead, observed, coalesce(own, by_runtime, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, 'older_than_retention', '') AS reason, if(ahead, 'clock_ahead', '') AS note,
    'log' AS event_type, if(word = '', 'info', word) AS severity,
    if(empty(quoted), text, if(JSONExtractString(concat('"', arrayElement(quoted, 2), '"')) = '', arrayElement(quoted, 2), JSONExtractString(concat('"', arrayElement(quoted, 2), '"')))) AS message,
    CAST(if(ahead, arrayPushBack(labelled, ('original_timestamp', time_text)), labelled),
        'Map(LowCardinality(String), String)') AS attributes,
    multiIf(empty(groups), 'klog', isNull(own), 'time', '') AS parse_error
FROM (
SELECT *,
arrayConcat(arrayFilter(pair -> pair.2 != '',
    [('thread', arrayElement(groups, 6)), ('caller', arrayElement(groups, 7))]), members) AS others, others.1 AS names
FROM (
SELECT *,
if(empty(zone_from) OR isNull(wall) OR 0, wall, fromUnixTimestamp64Micro(toUnixTimestamp64Micro(assumeNotNull(wall)) - arrayElement(zone_shift, arrayLastIndex(since -> since <= toUnixTimestamp64Micro(assumeNotNull(wall)), zone_from)), 'UTC')) AS own
FROM (
SELECT *,
if(empty(groups), NULL, near) AS wall
FROM (
SELECT *,
if(ifNull(late_utc > observed + INTERVAL 86400 SECOND, 0), subtractYears(late, 1), late) AS near
FROM (
SELECT *,
if(empty(zone_from) OR isNull(late) OR 0, late, fromUnixTimestamp64Micro(toUnixTimestamp64Micro(assumeNotNull(late)) - arrayElement(zone_shift, arrayLastIndex(since -> since <= toUnixTimestamp64Micro(assumeNotNull(late)), zone_from)), 'UTC')) AS late_utc
FROM (
SELECT *,
if(isNull(parseDateTime64BestEffortOrNull(concat(toString(near_year - 0), after_year), 6, 'UTC')), parseDateTime64BestEffortOrNull(concat(toString(near_year - 1), after_year), 6, 'UTC'), parseDateTime64BestEffortOrNull(concat(toString(near_year - 0), after_year), 6, 'UTC')) AS late
FROM (
SELECT *,
toYear(observed + INTERVAL 172800 SECOND) AS near_year
FROM (
SELECT *,
if(empty(quoted), [], arrayMap(pair -> (arrayElement(pair, 1), if(position(behind, '\\') = 0, if(arrayElement(pair, 2) = '', 'true', concat(arrayElement(pair, 4), arrayElement(pair, 3))), if(arrayElement(pair, 2) = '', 'true', concat(arrayElement(pair, 4), if(JSONExtractString(concat('"', arrayElement(pair, 3), '"')) = '', arrayElement(pair, 3), JSONExtractString(concat('"', arrayElement(pair, 3), '"'))))))),
            extractAllGroupsVertical(behind, '([^\\s="]+)(?:(=)(?:"((?:[^"\\\\]|\\\\.)*)"|(\\S*)))?'))) AS members, transform(lower(arrayElement(groups, 2)), ['trace', 'debug', 'verbose', 'silly', 'fine', 'finer', 'finest', 'trce', 'dbug', 'dbg', 'debug1', 'debug2', 'debug3', 'debug4', 'debug5', 'd', 't', 'v', '10', '20', '-1', '-2', '-3', '-4', '-5', '-6', '-7', '-8', '-9', '-10', 'level(-2)', 'level(-3)', 'level(-4)', 'level(-5)', 'level(-6)', 'level(-7)', 'level(-8)', 'level(-9)', 'level(-10)', 'info', 'information', 'informational', 'notice', 'log', 'config', 'http', 'inf', 'i', 'n', '30', '0', 'warn', 'warning', 'wrn', 'w', '40', 'err', 'error', 'severe', 'fail', 'failure', 'eror', 'e', '50', 'fatal', 'panic', 'dpanic', 'crit', 'critical', 'alert', 'emerg', 'emergency', 'ftl', 'f', 'c', '60'], ['debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'warning', 'warning', 'warning', 'warning', 'warning', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical'], '') AS word,
if(empty(groups), '', concat(arrayElement(groups, 3), arrayElement(groups, 4), ' ', arrayElement(groups, 5))) AS time_text,
concat('-', arrayElement(groups, 3), '-', arrayElement(groups, 4), ' ', arrayElement(groups, 5)) AS after_year
FROM (
SELECT *,
substring(text, length(arrayElement(quoted, 1)) + 1) AS behind
FROM (
SELECT *,
if(empty(groups) OR NOT startsWith(text, '"'), [], extractGroups(text, '^("((?:[^"\\\\]|\\\\.)*)")(?: [^\\s="]+=|$)')) AS quoted
FROM (
SELECT *,
substring(line, length(arrayElement(groups, 1)) + 1) AS text
FROM (
SELECT *,
extractGroups(line, '^(([IWEF])(0[1-9]|1[0-2])(0[1-9]|[12]\\d|3[01]) ((?:[01]\\d|2[0-3]):[0-5]\\d:[0-6]\\d\\.\\d{1,9}) +(\\d+) ([^\\s\\]]+:\\d+)\\] ?)') AS groups
FROM (
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, line, start, observed, oldest, newest, zone_from, zone_shift,
    CAST(mapUpdate(block_labels, mark), 'Array(Tuple(String, String))') AS labels,
    if(match(own_time, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(own_time, ',', '.'), 6, 'UTC'), NULL) AS runtime,
        if(ifNull(runtime > newest, 0), NULL, runtime) AS by_runtime
FROM (
    WITH 
    splitByChar('\n', data) AS pieces,
    if(empty(firsts), pieces, arrayMap(group -> arrayStringConcat(group, '\n'),
        arraySplit((piece, first) -> first, pieces, arrayResize(firsts, length(pieces), 1)))) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts,
    arrayResize(marks, length(parts)) AS own_marks,
    arrayResize(times, length(parts)) AS own_times

    SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, parts, starts, own_marks, own_times, labels AS block_labels, zone_from, zone_shift,
        fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed, fromUnixTimestamp64Micro(oldest_us, 'UTC') AS oldest, fromUnixTimestamp64Micro(newest_us, 'UTC') AS newest
    FROM pulsestream.ingest_klog
) ARRAY JOIN parts AS line, starts AS start, own_marks AS mark, own_times AS own_time
)
)
)
)
)
)
)
)
)
)
)
)
);

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_regex_view ON CLUSTER 'main' TO pulsestream.ingest_lines AS
WITH
    ifNull(own > newest, 0) AS ahead,
    if(empty(labels), others, arrayConcat(others, arrayFilter(label -> NOT has(names, label.1), labels))) AS labelled
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, start AS offset, 
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
 AS external_id,
    if(ahead, observed, coalesce(own, by_runtime, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, 'older_than_retention', '') AS reason, if(ahead, 'clock_ahead', '') AS note,
    'log' AS event_type, if(word = '', 'info', word) AS severity,
    if(message_at = 0 OR NOT valid, line, arrayElement(texts, message_at)) AS message,
    CAST(if(ahead, arrayPushBack(labelled, ('original_timestamp', time_text)), labelled),
        'Map(LowCardinality(String), String)') AS attributes,
    multiIf(too_many, 'fields', empty(values), 'regex', time_at > 0 AND isNull(own), 'time', '') AS parse_error,
    if(length(trace) > 128, '', if(length(trace) = 55 AND startsWith(trace, '00-'), substring(trace, 4, 32), trace)) AS trace_id,
    multiIf(length(span) > 128, '', span = '', if(length(trace) = 55 AND startsWith(trace, '00-'), substring(trace, 37, 16), ''), span) AS span_id
FROM (
SELECT *,
if(isNull(own), 0, time_at) AS time_used, if(word = '', 0, level_at) AS level_used,
arrayFilter((pair, i) -> i != time_used AND i != level_used AND i != message_at, pairs,
    arrayEnumerate(pairs)) AS others
FROM (
SELECT *,
if(empty(zone_from) OR isNull(wall) OR match(time_text, '^\\d{10}|:\\d\\d([.,]\\d+)? ?([Zz]|UTC|GMT|[+-]\\d\\d(:?\\d\\d)?)$'), wall, fromUnixTimestamp64Micro(toUnixTimestamp64Micro(assumeNotNull(wall)) - arrayElement(zone_shift, arrayLastIndex(since -> since <= toUnixTimestamp64Micro(assumeNotNull(wall)), zone_from)), 'UTC')) AS own
FROM (
SELECT *,
if(match(time_text, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(time_text, ',', '.'), 6, 'UTC'), NULL) AS wall
FROM (
SELECT *,
arrayElement(texts, time_at) AS time_text,
arrayElement(texts, trace_at) AS trace, arrayElement(texts, span_at) AS span,
transform(lower(arrayElement(texts, level_at)), ['trace', 'debug', 'verbose', 'silly', 'fine', 'finer', 'finest', 'trce', 'dbug', 'dbg', 'debug1', 'debug2', 'debug3', 'debug4', 'debug5', 'd', 't', 'v', '10', '20', '-1', '-2', '-3', '-4', '-5', '-6', '-7', '-8', '-9', '-10', 'level(-2)', 'level(-3)', 'level(-4)', 'level(-5)', 'level(-6)', 'level(-7)', 'level(-8)', 'level(-9)', 'level(-10)', 'info', 'information', 'informational', 'notice', 'log', 'config', 'http', 'inf', 'i', 'n', '30', '0', 'warn', 'warning', 'wrn', 'w', '40', 'err', 'error', 'severe', 'fail', 'failure', 'eror', 'e', '50', 'fatal', 'panic', 'dpanic', 'crit', 'critical', 'alert', 'emerg', 'emergency', 'ftl', 'f', 'c', '60'], ['debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'warning', 'warning', 'warning', 'warning', 'warning', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical'], '') AS word
FROM (
SELECT *,
arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), time_fields)) AS time_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), level_fields)) AS level_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), message_fields)) AS message_at,
        arrayFirstIndex(name -> name IN ('trace_id', 'traceId', 'traceID', 'traceid', 'TraceId', 'trace.id', 'trace-id', 'dd.trace_id', 'otelTraceID', 'traceparent'), names) AS trace_at,
        arrayFirstIndex(name -> name IN ('span_id', 'spanId', 'spanID', 'spanid', 'SpanId', 'span.id', 'span-id', 'dd.span_id', 'otelSpanID'), names) AS span_at
FROM (
SELECT *,
pairs.1 AS names, pairs.2 AS texts
FROM (
SELECT *,
length(members) > 1000 AS too_many, if(too_many, [], members) AS pairs
FROM (
SELECT *,
arrayFilter(pair -> pair.1 != '' AND pair.2 != '', arrayMap((name, value) -> (name, value), groups,
arrayResize(values, length(groups)))) AS members
FROM (
SELECT *,
extractGroups(if(valid, line, toValidUTF8(line)), if(ifNull((SELECT any(pattern) FROM pulsestream.ingest_regex), '') = '', '()', ifNull((SELECT any(pattern) FROM pulsestream.ingest_regex), ''))) AS values
FROM (
SELECT *,
isValidUTF8(line) AS valid
FROM (
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, line, start, observed, oldest, newest, time_fields, level_fields, message_fields, groups, zone_from, zone_shift,
    CAST(mapUpdate(block_labels, mark), 'Array(Tuple(String, String))') AS labels,
    if(match(own_time, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(own_time, ',', '.'), 6, 'UTC'), NULL) AS runtime,
        if(ifNull(runtime > newest, 0), NULL, runtime) AS by_runtime
FROM (
    WITH 
    splitByChar('\n', data) AS pieces,
    if(empty(firsts), pieces, arrayMap(group -> arrayStringConcat(group, '\n'),
        arraySplit((piece, first) -> first, pieces, arrayResize(firsts, length(pieces), 1)))) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts,
    arrayResize(marks, length(parts)) AS own_marks,
    arrayResize(times, length(parts)) AS own_times

    SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, parts, starts, own_marks, own_times, labels AS block_labels, time_fields, level_fields, message_fields, groups, zone_from, zone_shift,
        fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed, fromUnixTimestamp64Micro(oldest_us, 'UTC') AS oldest, fromUnixTimestamp64Micro(newest_us, 'UTC') AS newest
    FROM pulsestream.ingest_regex
) ARRAY JOIN parts AS line, starts AS start, own_marks AS mark, own_times AS own_time
)
)
)
)
)
)
)
)
)
)
);

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_regex_timed_view ON CLUSTER 'main' TO pulsestream.ingest_lines AS
WITH
    ifNull(own > newest, 0) AS ahead,
    if(empty(labels), others, arrayConcat(others, arrayFilter(label -> NOT has(names, label.1), labels))) AS labelled
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, start AS offset, 
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
 AS external_id,
    if(ahead, observed, coalesce(own, by_runtime, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, 'older_than_retention', '') AS reason, if(ahead, 'clock_ahead', '') AS note,
    'log' AS event_type, if(word = '', 'info', word) AS severity,
    if(message_at = 0 OR NOT valid, line, arrayElement(texts, message_at)) AS message,
    CAST(if(ahead, arrayPushBack(labelled, ('original_timestamp', time_text)), labelled),
        'Map(LowCardinality(String), String)') AS attributes,
    multiIf(too_many, 'fields', empty(values), 'regex', time_at > 0 AND isNull(own), 'time', '') AS parse_error,
    if(length(trace) > 128, '', if(length(trace) = 55 AND startsWith(trace, '00-'), substring(trace, 4, 32), trace)) AS trace_id,
    multiIf(length(span) > 128, '', span = '', if(length(trace) = 55 AND startsWith(trace, '00-'), substring(trace, 37, 16), ''), span) AS span_id
FROM (
SELECT *,
if(isNull(own), 0, time_at) AS time_used, if(word = '', 0, level_at) AS level_used,
arrayFilter((pair, i) -> i != time_used AND i != level_used AND i != message_at, pairs,
    arrayEnumerate(pairs)) AS others
FROM (
SELECT *,
if(empty(zone_from) OR isNull(wall) OR has_zone, wall, fromUnixTimestamp64Micro(toUnixTimestamp64Micro(assumeNotNull(wall)) - arrayElement(zone_shift, arrayLastIndex(since -> since <= toUnixTimestamp64Micro(assumeNotNull(wall)), zone_from)), 'UTC')) AS own
FROM (
SELECT *,
multiIf(form = '', if(match(time_text, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(time_text, ',', '.'), 6, 'UTC'), NULL), empty(told), NULL,
empty(time_parts), fromUnixTimestamp64Micro(assumeNotNull(epoch_us), 'UTC'),
full_year = '', near, parseDateTime64BestEffortOrNull(concat(full_year, after_year), 6, 'UTC')) AS wall,
multiIf(empty(zone_from), 1, form = '', match(time_text, '^\\d{10}|:\\d\\d([.,]\\d+)? ?([Zz]|UTC|GMT|[+-]\\d\\d(:?\\d\\d)?)$'), empty(time_parts) OR own_zone != '') AS has_zone
FROM (
SELECT *,
if(ifNull(late_utc > observed + INTERVAL 86400 SECOND, 0), subtractYears(late, 1), late) AS near
FROM (
SELECT *,
if(empty(zone_from) OR isNull(late) OR own_zone != '', late, fromUnixTimestamp64Micro(toUnixTimestamp64Micro(assumeNotNull(late)) - arrayElement(zone_shift, arrayLastIndex(since -> since <= toUnixTimestamp64Micro(assumeNotNull(late)), zone_from)), 'UTC')) AS late_utc
FROM (
SELECT *,
if(isNull(parseDateTime64BestEffortOrNull(concat(toString(near_year - 0), after_year), 6, 'UTC')), parseDateTime64BestEffortOrNull(concat(toString(near_year - 1), after_year), 6, 'UTC'), parseDateTime64BestEffortOrNull(concat(toString(near_year - 0), after_year), 6, 'UTC')) AS late
FROM (
SELECT *,
toYear(observed + INTERVAL 172800 SECOND) AS near_year
FROM (
SELECT *,
if(short_year = '', arrayElement(told, arrayElement(time_parts, 1)), concat(if(short_year < '69', '20', '19'), short_year)) AS full_year,
concat('-', leftPad(transform(lower(substring(month, 1, 3)), ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'], ['01', '02', '03', '04', '05', '06', '07', '08', '09', '10', '11', '12'], month), 2, '0'), '-', leftPad(trimLeft(arrayElement(told, arrayElement(time_parts, 3))), 2, '0'), ' ', leftPad(trimLeft(arrayElement(told, arrayElement(time_parts, 4))), 2, '0'), ':',
leftPad(trimLeft(arrayElement(told, arrayElement(time_parts, 5))), 2, '0'), ':',
leftPad(trimLeft(arrayElement(told, arrayElement(time_parts, 6))), 2, '0'), if(fraction = '', '', concat('.', fraction)), ' ', arrayElement(told, arrayElement(time_parts, 8)),
if(own_zone IN ('', 'z', 'Z', 'UTC', 'GMT'), '', concat(' ', own_zone))) AS after_year,
toInt64OrNull(concat('0', substring(concat(arrayElement(told, 1), rightPad(arrayElement(told, 2), 9, '0')), 1,
greatest(length(arrayElement(told, 1)) + time_scale, 0)))) AS epoch_us
FROM (
SELECT *,
arrayElement(told, arrayElement(time_parts, 10)) AS short_year, arrayElement(told, arrayElement(time_parts, 7)) AS fraction, arrayElement(told, arrayElement(time_parts, 9)) AS own_zone,
arrayElement(told, arrayElement(time_parts, 2)) AS month
FROM (
SELECT *,
ifNull((SELECT any(time_pattern) FROM pulsestream.ingest_regex_timed), '') AS form, extractGroups(time_text, if(ifNull((SELECT any(time_pattern) FROM pulsestream.ingest_regex_timed), '') = '', '()', ifNull((SELECT any(time_pattern) FROM pulsestream.ingest_regex_timed), ''))) AS told
FROM (
SELECT *,
arrayElement(texts, time_at) AS time_text,
arrayElement(texts, trace_at) AS trace, arrayElement(texts, span_at) AS span,
transform(lower(arrayElement(texts, level_at)), ['trace', 'debug', 'verbose', 'silly', 'fine', 'finer', 'finest', 'trce', 'dbug', 'dbg', 'debug1', 'debug2', 'debug3', 'debug4', 'debug5', 'd', 't', 'v', '10', '20', '-1', '-2', '-3', '-4', '-5', '-6', '-7', '-8', '-9', '-10', 'level(-2)', 'level(-3)', 'level(-4)', 'level(-5)', 'level(-6)', 'level(-7)', 'level(-8)', 'level(-9)', 'level(-10)', 'info', 'information', 'informational', 'notice', 'log', 'config', 'http', 'inf', 'i', 'n', '30', '0', 'warn', 'warning', 'wrn', 'w', '40', 'err', 'error', 'severe', 'fail', 'failure', 'eror', 'e', '50', 'fatal', 'panic', 'dpanic', 'crit', 'critical', 'alert', 'emerg', 'emergency', 'ftl', 'f', 'c', '60'], ['debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'info', 'warning', 'warning', 'warning', 'warning', 'warning', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical'], '') AS word
FROM (
SELECT *,
arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), time_fields)) AS time_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), level_fields)) AS level_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), message_fields)) AS message_at,
        arrayFirstIndex(name -> name IN ('trace_id', 'traceId', 'traceID', 'traceid', 'TraceId', 'trace.id', 'trace-id', 'dd.trace_id', 'otelTraceID', 'traceparent'), names) AS trace_at,
        arrayFirstIndex(name -> name IN ('span_id', 'spanId', 'spanID', 'spanid', 'SpanId', 'span.id', 'span-id', 'dd.span_id', 'otelSpanID'), names) AS span_at
FROM (
SELECT *,
pairs.1 AS names, pairs.2 AS texts
FROM (
SELECT *,
length(members) > 1000 AS too_many, if(too_many, [], members) AS pairs
FROM (
SELECT *,
arrayFilter(pair -> pair.1 != '' AND pair.2 != '', arrayMap((name, value) -> (name, value), groups,
arrayResize(values, length(groups)))) AS members
FROM (
SELECT *,
extractGroups(if(valid, line, toValidUTF8(line)), if(ifNull((SELECT any(pattern) FROM pulsestream.ingest_regex_timed), '') = '', '()', ifNull((SELECT any(pattern) FROM pulsestream.ingest_regex_timed), ''))) AS values
FROM (
SELECT *,
isValidUTF8(line) AS valid
FROM (
SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, line, start, observed, oldest, newest, time_fields, level_fields, message_fields, groups, time_parts, time_scale, zone_from, zone_shift,
    CAST(mapUpdate(block_labels, mark), 'Array(Tuple(String, String))') AS labels,
    if(match(own_time, '^(\\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\\d|3[01])([T ]([01]\\d|2[0-3]):[0-5]\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(own_time, ',', '.'), 6, 'UTC'), NULL) AS runtime,
        if(ifNull(runtime > newest, 0), NULL, runtime) AS by_runtime
FROM (
    WITH 
    splitByChar('\n', data) AS pieces,
    if(empty(firsts), pieces, arrayMap(group -> arrayStringConcat(group, '\n'),
        arraySplit((piece, first) -> first, pieces, arrayResize(firsts, length(pieces), 1)))) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts,
    arrayResize(marks, length(parts)) AS own_marks,
    arrayResize(times, length(parts)) AS own_times

    SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, parts, starts, own_marks, own_times, labels AS block_labels, time_fields, level_fields, message_fields, groups, time_parts, time_scale, zone_from, zone_shift,
        fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed, fromUnixTimestamp64Micro(oldest_us, 'UTC') AS oldest, fromUnixTimestamp64Micro(newest_us, 'UTC') AS newest
    FROM pulsestream.ingest_regex_timed
) ARRAY JOIN parts AS line, starts AS start, own_marks AS mark, own_times AS own_time
)
)
)
)
)
)
)
)
)
)
)
)
)
)
)
)
)
);

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_stored ON CLUSTER 'main' TO pulsestream.events AS
SELECT tenant_id, external_id, timestamp, observed_timestamp, event_type, severity, service, source, path, agent, message, attributes, parse_error, retention_days, version, trace_id, span_id FROM pulsestream.ingest_lines WHERE reason = '';

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_requests_stored ON CLUSTER 'main' TO pulsestream.events AS
SELECT tenant_id, external_id, timestamp, observed_timestamp, event_type, severity, service, source, path, agent, message, attributes, parse_error, retention_days, version, trace_id, span_id, endpoint, method, user_id, ip_address, user_agent, status_code, response_time_ms, response_size_bytes, zero_metrics FROM pulsestream.ingest_requests WHERE reason = '';

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_excepted ON CLUSTER 'main' TO pulsestream.ingest_exceptions AS
SELECT commit_id, record, reason, note, parse_error, count() AS events,
    groupArrayIf(offset, reason != '') AS offsets
FROM pulsestream.ingest_lines WHERE reason != '' OR note != '' OR parse_error != ''
GROUP BY commit_id, record, reason, note, parse_error;

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_requests_excepted ON CLUSTER 'main' TO pulsestream.ingest_exceptions AS
SELECT commit_id, record, reason, note, parse_error, count() AS events,
    groupArrayIf(offset, reason != '') AS offsets
FROM pulsestream.ingest_requests WHERE reason != '' OR note != '' OR parse_error != ''
GROUP BY commit_id, record, reason, note, parse_error;

CREATE VIEW IF NOT EXISTS pulsestream.events_live ON CLUSTER 'main' AS SELECT *, items FROM pulsestream.events FINAL
SETTINGS use_skip_indexes_if_final_exact_mode = 0, defer_partition_pruning_after_final = 0;

CREATE VIEW IF NOT EXISTS pulsestream.search ON CLUSTER 'main' SQL SECURITY INVOKER AS SELECT * EXCEPT (version, is_deleted, retention_days), items
FROM pulsestream.events FINAL WHERE timestamp >= now64(6, 'UTC') - toIntervalDay(retention_days)
SETTINGS use_skip_indexes_if_final_exact_mode = 0, defer_partition_pruning_after_final = 0;

INSERT INTO pulsestream.schema_version (version, applied)
SELECT 4, now64(6, 'UTC') WHERE 4 NOT IN (SELECT version FROM pulsestream.schema_version);
