-- Does: commits one version of a session: checks everything, then publishes chunks, manifest, head,
--       metadata, history and audit at once. Asked twice with the same manifest, answers the same.
-- KEYS[1]: the session's base key
-- ARGV[1]: JSON {operation, once, agent, base, blind, explicit, version, etag, content_hash,
--          expected_etag, expected_next_chunk, repair, size_bytes, size_tokens, chunk_count, compression,
--          backstop_ms, staging, staged: [stored bytes of each new chunk],
--          referenced: [[chunk id, stored bytes], ...]}; "" stands for absent
-- ARGV[2]: the manifest as stored
-- Returns: {answer, head, head etag, head content hash, head time in us, refresh due 0|1}, answer
--          one of accepted, repeated, unchanged, rejected, stale, absent, orphaned, deleting,
--          immutable, archived; or {missing_staging}, {missing_chunk, id, ...}
-- Errors:  none of its own
-- include: expiry.lua
local base = KEYS[1]
local request = cjson.decode(ARGV[1])
local now_us = redis_now_us()

local fields = redis.call('HMGET', base, 'state', 'immutable', 'archived', 'head', 'head_etag',
                          'head_hash', 'head_at', 'next_chunk')
local head = fields[4] or ''
local next_chunk = tonumber(fields[8] or '0')

local function answer(kind, version, etag, hash, at, due)
  return {kind, version or '', etag or '', hash or '', at or '0', due or 0}
end

local function answer_head(kind)
  return answer(kind, head, fields[5], fields[6], fields[7])
end

local function drop_staging()
  for i = 1, #request.staged do
    redis.call('DEL', request.staging .. (i - 1))
  end
end

-- The head has this content already: no new version, but it is now this writer's as well.
local function answer_unchanged()
  drop_staging()
  redis.call('HSET', base .. ':authors', request.agent, head)
  if request.once then
    redis.call('HSET', base .. ':operations', request.operation, head)
  end
  append_audit(base, {at = math.floor(now_us / 1000), agent = request.agent,
                      operation = 'updated', version = head,
                      details = {base = request.base, unchanged = true}})
  adopt_expiry(base)
  return answer_head('unchanged')
end

local function answer_version(kind, version)
  local stored = redis.call('HGET', base .. ':manifests', version)
  if not stored then
    return answer_head(kind)
  end
  local etag = string.sub(stored, 1, 64)
  local hash = cjson.decode(string.sub(stored, 66)).content_hash
  local at = redis.call('ZSCORE', base .. ':history', version .. ':' .. hash)
  return answer(kind, version, etag, hash, number_text(tonumber(at or '0') * 1000000))
end

if fields[1] == 'deleting' then
  return answer('deleting')
end
if request.once then
  local done = redis.call('HGET', base .. ':operations', request.operation)
  if done then
    drop_staging()
    return answer_version('repeated', done)
  end
end
local twin = redis.call('HGET', base .. ':manifests', request.version)
if twin and string.sub(twin, 1, 64) == request.etag then
  drop_staging()
  return answer_version('repeated', request.version)
end
if fields[2] == '1' then
  return answer('immutable')
end
if fields[3] == '1' then
  return answer('archived')
end
if head == '' and request.base ~= '' then
  return answer('absent')
end
if head == '' and redis.call('EXISTS', base .. ':manifests') == 1 then
  return answer('orphaned')
end
if fields[6] == request.content_hash and not request.explicit and not request.repair then
  return answer_unchanged()
end
if request.base ~= '' and request.base ~= head then
  if fields[6] == request.content_hash then
    return answer_unchanged()
  end
  drop_staging()
  return answer_head('rejected')
end
-- By etag, not by version: a session deleted and begun anew has the same version numbers.
if request.expected_etag ~= (fields[5] or '') or request.expected_next_chunk ~= next_chunk then
  return answer_head('stale')
end
for i, size in ipairs(request.staged) do
  if redis.call('STRLEN', request.staging .. (i - 1)) ~= size then
    return {'missing_staging'}
  end
end
local missing = {'missing_chunk'}
for _, ref in ipairs(request.referenced) do
  if redis.call('STRLEN', base .. ':chunks:' .. number_text(ref[1])) ~= ref[2] then
    missing[#missing + 1] = ref[1]
  end
end
if #missing > 1 then
  return missing
end

-- Every check has passed; from here on only writes.
local created = head == ''
local now_ms = math.floor(now_us / 1000)
-- Two commits within one tick of the clock still have an order.
local at_us = math.max(now_us, tonumber(fields[7] or '0') + 1)
for i = 1, #request.staged do
  redis.call('RENAME', request.staging .. (i - 1),
             base .. ':chunks:' .. number_text(next_chunk + i - 1))
end
expire_chunks(base, next_chunk, next_chunk + #request.staged - 1, request.backstop_ms)
redis.call('HSET', base, 'head', request.version, 'head_etag', request.etag,
           'head_hash', request.content_hash, 'head_at', number_text(at_us),
           'next_chunk', number_text(next_chunk + #request.staged))
redis.call('SET', base .. ':version', request.version, 'KEEPTTL')
redis.call('HSET', base .. ':manifests', request.version, ARGV[2])
redis.call('HSET', base .. ':metadata', 'version', request.version, 'size_bytes', request.size_bytes,
           'size_tokens', request.size_tokens, 'chunk_count', request.chunk_count,
           'updated_at', number_text(now_ms), 'last_accessed_by', request.agent,
           'last_accessed_at', number_text(now_ms), 'etag', request.etag,
           'compression', request.compression)
redis.call('ZADD', base .. ':history', string.format('%.6f', at_us / 1000000),
           request.version .. ':' .. request.content_hash)
redis.call('HSET', base .. ':authors', request.agent, request.version)
if request.once then
  redis.call('HSET', base .. ':operations', request.operation, request.version)
end
if created then
  redis.call('HSET', base, 'format', 1, 'state', 'live', 'owner', request.agent, 'created_at',
             number_text(now_ms), 'immutable', '0', 'sensitive', '0', 'encrypted', '0',
             'archived', '0')
  redis.call('HSET', base .. ':metadata', 'created_at', number_text(now_ms),
             'owner', request.agent)
  -- Readers append with RPUSHX, so the list must exist; its first element is this marker.
  redis.call('DEL', base .. ':access')
  redis.call('RPUSH', base .. ':access', 'notes')
end
append_audit(base, {at = now_ms, agent = request.agent,
                    operation = created and 'created' or 'updated', version = request.version,
                    details = {base = head, blind = request.blind, etag = request.etag}})
local due = 0
if created then
  expire_small_keys(base, request.backstop_ms)
  redis.call('HSET', base, 'refreshed_at', number_text(now_ms))
elseif refresh_is_due(base, request.backstop_ms, now_ms) then
  if next_chunk + #request.staged <= SLICE then
    refresh_all(base, request.backstop_ms, now_ms)
  else
    due = 1
  end
end
adopt_expiry(base)
return answer('accepted', request.version, request.etag, request.content_hash,
              number_text(at_us), due)
