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
  attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  parse_error LowCardinality(String),
  retention_days UInt16,
  version UInt64 CODEC(ZSTD(1)),
  is_deleted UInt8,
  title String CODEC(ZSTD(1)),
  endpoint String CODEC(ZSTD(1)),
  method LowCardinality(String),
  service_version LowCardinality(String),
  environment LowCardinality(String),
  user_id String CODEC(ZSTD(1)),
  session_id String CODEC(ZSTD(1)),
  request_id String CODEC(ZSTD(1)),
  trace_id String CODEC(ZSTD(1)),
  span_id String CODEC(ZSTD(1)),
  ip_address String CODEC(ZSTD(1)),
  user_agent String CODEC(ZSTD(1)),
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
  version UInt64
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
    if(match(time_text, '^(\\d{4}[-/]\\d\\d[-/]\\d\\d([T ]\\d\\d:\\d\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'),
       parseDateTime64BestEffortOrNull(replaceOne(time_text, ',', '.'), 6, 'UTC'), NULL) AS own,
    ifNull(own > newest, 0) AS ahead,
    transform(lower(arrayElement(texts, level_at)), ['trace', 'debug', 'verbose', 'fine', '10', '20', 'info', 'information', 'informational', 'notice', 'log', '30', 'warn', 'warning', '40', 'err', 'error', 'severe', '50', 'fatal', 'panic', 'crit', 'critical', 'alert', 'emerg', 'emergency', '60'], ['debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'info', 'info', 'info', 'info', 'info', 'info', 'warning', 'warning', 'warning', 'error', 'error', 'error', 'error', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical'], '') AS word,
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
    multiIf(too_many, 'fields',
            empty(names) AND JSONType(line) != 'Object', 'json',
            time_at > 0 AND isNull(own), 'time', '') AS parse_error
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
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), message_fields)) AS message_at
    FROM (
        WITH 
    splitByChar('\n', data) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts

        SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, parts, starts, time_fields, level_fields, message_fields,
            CAST(labels, 'Array(Tuple(String, String))') AS labels, fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed,
            fromUnixTimestamp64Micro(oldest_us, 'UTC') AS oldest, fromUnixTimestamp64Micro(newest_us, 'UTC') AS newest
        FROM pulsestream.ingest_json
    ) ARRAY JOIN parts AS line, starts AS start
);

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_raw_shaped_view ON CLUSTER 'main' TO pulsestream.ingest_lines AS
WITH if(match(own_time, '^(\\d{4}[-/]\\d\\d[-/]\\d\\d([T ]\\d\\d:\\d\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(own_time, ',', '.'), 6, 'UTC'), NULL) AS own, ifNull(own > newest, 0) AS ahead
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
    if(match(time_text, '^(\\d{4}[-/]\\d\\d[-/]\\d\\d([T ]\\d\\d:\\d\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'),
       parseDateTime64BestEffortOrNull(replaceOne(time_text, ',', '.'), 6, 'UTC'), NULL) AS own,
    ifNull(own > newest, 0) AS ahead,
    transform(lower(arrayElement(texts, level_at)), ['trace', 'debug', 'verbose', 'fine', '10', '20', 'info', 'information', 'informational', 'notice', 'log', '30', 'warn', 'warning', '40', 'err', 'error', 'severe', '50', 'fatal', 'panic', 'crit', 'critical', 'alert', 'emerg', 'emergency', '60'], ['debug', 'debug', 'debug', 'debug', 'debug', 'debug', 'info', 'info', 'info', 'info', 'info', 'info', 'warning', 'warning', 'warning', 'error', 'error', 'error', 'error', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical', 'critical'], '') AS word,
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
    multiIf(too_many, 'fields',
            empty(names) AND JSONType(line) != 'Object', 'json',
            time_at > 0 AND isNull(own), 'time', '') AS parse_error
FROM (
    WITH
        JSONExtractKeysAndValues(line, 'String') AS members,
        length(members) > 1000 AS too_many,
        if(too_many, [], members) AS pairs,
        pairs.1 AS names
    SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, CAST(mapUpdate(block_labels, mark), 'Array(Tuple(String, String))') AS labels, line, start,
        if(match(own_time, '^(\\d{4}[-/]\\d\\d[-/]\\d\\d([T ]\\d\\d:\\d\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$'), parseDateTime64BestEffortOrNull(replaceOne(own_time, ',', '.'), 6, 'UTC'), NULL) AS runtime,
        if(ifNull(runtime > newest, 0), NULL, runtime) AS by_runtime, observed, oldest, newest,
        by_runtime, too_many, pairs, names, pairs.2 AS texts,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), time_fields)) AS time_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), level_fields)) AS level_at,
        arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), message_fields)) AS message_at
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

        SELECT tenant_id, service, source, path, agent, retention_days, version, commit_id, record, file_id, parts, starts, own_marks, own_times, time_fields, level_fields, message_fields,
            labels AS block_labels, fromUnixTimestamp64Micro(observed_us, 'UTC') AS observed,
            fromUnixTimestamp64Micro(oldest_us, 'UTC') AS oldest, fromUnixTimestamp64Micro(newest_us, 'UTC') AS newest
        FROM pulsestream.ingest_json_shaped
    ) ARRAY JOIN parts AS line, starts AS start, own_marks AS mark, own_times AS own_time
);

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_stored ON CLUSTER 'main' TO pulsestream.events AS
SELECT tenant_id, external_id, timestamp, observed_timestamp, event_type, severity, service, source, path, agent, message, attributes, parse_error, retention_days, version FROM pulsestream.ingest_lines WHERE reason = '';

CREATE MATERIALIZED VIEW IF NOT EXISTS pulsestream.ingest_excepted ON CLUSTER 'main' TO pulsestream.ingest_exceptions AS
SELECT commit_id, record, reason, note, parse_error, count() AS events,
    groupArrayIf(offset, reason != '') AS offsets
FROM pulsestream.ingest_lines WHERE reason != '' OR note != '' OR parse_error != ''
GROUP BY commit_id, record, reason, note, parse_error;

CREATE VIEW IF NOT EXISTS pulsestream.events_live ON CLUSTER 'main' AS SELECT *, items FROM pulsestream.events FINAL
SETTINGS use_skip_indexes_if_final_exact_mode = 0, defer_partition_pruning_after_final = 0;

CREATE VIEW IF NOT EXISTS pulsestream.search ON CLUSTER 'main' SQL SECURITY INVOKER AS SELECT * EXCEPT (version, is_deleted, retention_days), items
FROM pulsestream.events FINAL WHERE timestamp >= now64(6, 'UTC') - toIntervalDay(retention_days)
SETTINGS use_skip_indexes_if_final_exact_mode = 0, defer_partition_pruning_after_final = 0;

INSERT INTO pulsestream.schema_version (version, applied)
SELECT 4, now64(6, 'UTC') WHERE 4 NOT IN (SELECT version FROM pulsestream.schema_version);
