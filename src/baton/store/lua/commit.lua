-- Does: commits one version of a session, or one pending revision: checks everything, then publishes
--       chunks, manifest, head, metadata, history and audit at once. Asked twice with the same
--       manifest, answers the same.
-- KEYS[1]: the session's base key
-- ARGV[1]: JSON {operation, once, agent, caller, base, audit, version, etag, content_hash, create,
--          expected_etag, expected_next_chunk, may_be_unchanged, size_bytes,
--          size_tokens, chunk_count, content_type, compression, backstop_ms, data_key, wrapped_key,
--          resolves, conflict, source, staging, staged: [stored bytes of each new chunk],
--          referenced: [[chunk id, stored bytes], ...]}; "" stands for absent. `conflict` is the
--          pending revision's {base, head, expires_ms, size_bytes}, or "" for a version
-- ARGV[2]: the manifest as stored
-- Returns: {answer, version, etag, content hash, time in us, refresh due 0|1, versions and pending
--          revisions that are stored}, answer one
--          of accepted, repeated, unchanged, stale (these of the head or of the repeated version),
--          conflicted, absent, exists, orphaned, deleting, immutable, archived, sealed, unsealed,
--          resolved; or {missing_staging}, {missing_claim}, {missing_chunk, id, ...}
-- Errors:  none of its own
-- include: expiry.lua
-- include: audit.lua
-- include: repeats.lua
local base = KEYS[1]
local request = cjson.decode(ARGV[1])
local now_us = redis_now_us()
local now_ms = math.floor(now_us / 1000)

check_audit(base)
local fields = redis.call('HMGET', base, 'state', 'immutable', 'archived', 'head', 'head_etag',
                          'head_hash', 'head_at', 'next_chunk', 'data_key', 'done')
local head = fields[4] or ''
local next_chunk = tonumber(fields[8] or '0')
local is_conflict = request.conflict ~= ''
-- A new data key has one from before it was wrapped; a rotation of the master keys takes it back.
local claim = request.wrapped_key ~= '' and base .. ':staging:' .. request.data_key .. ':key' or nil

local function answer(kind, version, etag, hash, at, due)
  return {kind, version or '', etag or '', hash or '', at or '0', due or 0,
          redis.call('HLEN', base .. ':manifests') + redis.call('HLEN', base .. ':pending')}
end

local function answer_head(kind)
  return answer(kind, head, fields[5], fields[6], fields[7])
end

local function drop_staging()
  for i = 1, #request.staged do
    redis.call('DEL', request.staging .. (i - 1))
  end
  if claim then
    redis.call('DEL', claim)
  end
end

local function audit(operation, version, details)
  append_audit(base, {at = now_ms, agent = request.agent, operation = operation, version = version,
                      caller = request.caller, details = details})
end

local function deny(kind)
  drop_staging()
  audit('denied', head, {operation = request.audit, reason = kind})
  return answer_head(kind)
end

local function find_conflict(id)
  local stored = redis.call('HGET', base .. ':conflicts', id)
  local conflict = stored and cjson.decode(stored)
  return conflict and conflict.expires_at > now_ms and conflict or nil
end

-- It expires, and goes with the next collection: only that can tell which chunks nothing else needs.
local function end_conflict()
  local conflict = find_conflict(request.resolves)
  if conflict then
    conflict.expires_at = now_ms
    redis.call('HSET', base .. ':conflicts', request.resolves, cjson.encode(conflict))
    redis.call('HINCRBY', base, 'epoch', 1)
  end
end

-- The head has this content already: no new version, but it is now this writer's as well.
local function answer_unchanged()
  drop_staging()
  end_conflict()
  redis.call('HSET', base .. ':authors', request.agent, head)
  if request.once then
    redis.call('HSET', base .. ':operations', request.operation, head)
  else
    remember_done(base, request.operation, head)
  end
  audit(request.audit, head, {base = request.base, unchanged = true})
  adopt_expiry(base, {':authors', ':operations'})
  return answer_head('unchanged')
end

local function answer_version(kind, version)
  local stored = redis.call('HGET', base .. ':manifests', version)
  local etag, hash = string.match(stored or '', '^(%S+) ([^\n]+)')
  if not etag then
    return answer_head(kind)
  end
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
local unchanged = not request.once and done_as(fields[10], request.operation)
if unchanged then
  drop_staging()
  return answer_version('unchanged', unchanged)
end
local holder = is_conflict and ':pending' or ':manifests'
local twin = redis.call('HGET', base .. holder, is_conflict and request.operation or request.version)
if twin and string.sub(twin, 1, #request.etag) == request.etag then
  drop_staging()
  return is_conflict and answer_head('conflicted') or answer_version('repeated', request.version)
end
if fields[2] == '1' then
  return deny('immutable')
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
if head ~= '' and request.create then
  drop_staging()
  return answer_head('exists')
end
-- Another key, or none: a session begun anew is stale, and what remains is never let in.
local same_etag = request.expected_etag == (fields[5] or '')
if head ~= '' and same_etag and request.data_key ~= (fields[9] or '') then
  return deny(request.data_key == '' and 'sealed' or 'unsealed')
end
if request.resolves ~= '' and not find_conflict(request.resolves) then
  drop_staging()
  return answer_head('resolved')
end
-- What another head of the same content makes of this write, its writer decides: equal steps of two
-- counters are two, and metadata may differ.
if request.may_be_unchanged and same_etag and fields[6] == request.content_hash then
  return answer_unchanged()
end
-- By etag, not by version: a session deleted and begun anew has the same version numbers.
if not same_etag or request.expected_next_chunk ~= next_chunk then
  drop_staging()
  return answer_head('stale')
end
if claim and redis.call('EXISTS', claim) == 0 then
  drop_staging()
  return {'missing_claim'}
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
for i = 1, #request.staged do
  redis.call('RENAME', request.staging .. (i - 1),
             base .. ':chunks:' .. number_text(next_chunk + i - 1))
end
expire_chunks(base, next_chunk, next_chunk + #request.staged - 1, request.backstop_ms)
redis.call('HSET', base, 'next_chunk', number_text(next_chunk + #request.staged))

if is_conflict then
  local conflict = request.conflict
  redis.call('HSET', base .. ':pending', request.operation, ARGV[2])
  redis.call('HSET', base .. ':conflicts', request.operation, cjson.encode({
    agent = request.agent, base = conflict.base, head = conflict.head, at = now_ms,
    content_hash = request.content_hash, size_bytes = conflict.size_bytes,
    expires_at = now_ms + conflict.expires_ms}))
  redis.call('HINCRBY', base, 'epoch', 1)
  if request.once then
    redis.call('HSET', base .. ':operations', request.operation, 'conflict')
  end
  audit('conflicted', head, {base = conflict.base, conflict = request.operation})
  adopt_expiry(base, {':pending', ':conflicts', ':operations'})
  return answer_head('conflicted')
end

local created = head == ''
-- Two commits within one tick of the clock still have an order.
local at_us = math.max(now_us, tonumber(fields[7] or '0') + 1)
redis.call('HSET', base, 'head', request.version, 'head_etag', request.etag,
           'head_hash', request.content_hash, 'head_at', number_text(at_us))
redis.call('SET', base .. ':version', request.version, 'KEEPTTL')
redis.call('HSET', base .. ':manifests', request.version, ARGV[2])
redis.call('HSET', base .. ':metadata', 'version', request.version, 'size_bytes', request.size_bytes,
           'size_tokens', request.size_tokens, 'chunk_count', request.chunk_count,
           'updated_at', number_text(now_ms), 'last_accessed_by', request.agent,
           'last_accessed_at', number_text(now_ms), 'etag', request.etag,
           'compression', request.compression, 'content_type', request.content_type)
redis.call('ZADD', base .. ':history', string.format('%.6f', at_us / 1000000),
           request.version .. ':' .. request.content_hash)
redis.call('HSET', base .. ':authors', request.agent, request.version)
if request.once then
  redis.call('HSET', base .. ':operations', request.operation, request.version)
end
end_conflict()
if created then
  local sealed = request.data_key ~= ''
  redis.call('HSET', base, 'format', 2, 'state', 'live', 'owner', request.agent, 'created_at',
             number_text(now_ms), 'immutable', '0', 'sensitive', '0', 'encrypted',
             sealed and '1' or '0', 'archived', '0', 'data_key', request.data_key)
  redis.call('HSET', base .. ':metadata', 'created_at', number_text(now_ms),
             'owner', request.agent)
  if sealed then
    redis.call('SET', base .. ':key', request.wrapped_key)
    redis.call('DEL', claim)
  end
  if request.source ~= '' then
    redis.call('HSET', base, 'source', request.source)
  end
  -- Readers append with RPUSHX, so the list must exist; its first element is this marker.
  redis.call('DEL', base .. ':access')
  redis.call('RPUSH', base .. ':access', 'notes')
end
local is_new = created and (request.audit == 'updated' or request.audit == 'appended')
audit(is_new and 'created' or request.audit, request.version,
      {parent = head, base = request.base, blind = not created and request.base == '' and request.audit == 'updated',
       etag = request.etag, source = request.source})
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
adopt_expiry(base, {':authors', ':operations'})
return answer('accepted', request.version, request.etag, request.content_hash,
              number_text(at_us), due)
