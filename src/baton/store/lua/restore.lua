-- Does: brings a session back from the archive, all of it at once: what is staged becomes its chunks,
--       and the head is a new version with the old head's content
-- KEYS[1]: the session's base key
-- ARGV[1]: JSON {operation, shelf, copy, agent, caller, backstop_ms, container: {field: text},
--          metadata: {field: text}, history: [[member, score]], past: {version: record as JSON},
--          authors: {agent: version}, tags: {tag: version}, checkpoints: [as stored], wrapped_key, hold,
--          head: {version, etag, hash}, staging, staged: [[chunk id, stored bytes]]}; every value
--          a text but in `staged`; wrapped_key and hold are "" for none
-- ARGV[2...]: version and manifest as stored, of each version; the new head's are the last two
-- Returns: {answer, head version, its etag, time in us}, answer one of restored, repeated, live (it is
--          here), elsewhere (its content is another copy's), clearing (archive.lua has not
--          finished), deleting, missing_staging
-- Errors:  WRONGTYPE, with nothing written
-- include: expiry.lua
-- include: audit.lua
local base = KEYS[1]
local request = cjson.decode(ARGV[1])
local now_us = redis_now_us()
local now_ms = math.floor(now_us / 1000)
local head = request.head

check_audit(base)
local fields = redis.call('HMGET', base, 'state', 'archived', 'shelf', 'copy', 'clearing', 'head',
                          'head_etag', 'head_at', 'restored_by', 'epoch')
local function drop_staging()
  for i = 1, #request.staged do
    redis.call('DEL', request.staging .. (i - 1))
  end
end

local function answer(kind)
  drop_staging()
  return {kind, fields[6] or '', fields[7] or '', fields[8] or '0'}
end

if fields[1] == 'deleting' then
  return answer('deleting')
elseif fields[1] and fields[2] ~= '1' then
  return answer(fields[9] == request.operation and 'repeated' or 'live')
elseif fields[5] then
  return answer('clearing')
elseif fields[1] and (fields[3] ~= request.shelf or fields[4] ~= request.copy) then
  return answer('elsewhere')
end
for i, chunk in ipairs(request.staged) do
  if redis.call('STRLEN', request.staging .. (i - 1)) ~= chunk[2] then
    return {'missing_staging', '', '', '0'}
  end
end

-- Every check has passed; from here on only writes.
local function put_all(suffix, texts)
  for name, text in pairs(texts) do
    redis.call('HSET', base .. suffix, name, text)
  end
end

-- The tombstone knows of a hold; where Redis has forgotten it, the archive does.
local hold = request.hold
if fields[1] then
  hold = redis.call('HGET', base, 'hold') or ''
end
redis.call('DEL', base)
put_all('', request.container)
-- Two commits within one tick of the clock still have an order.
local at_us = math.max(now_us, tonumber(request.container.head_at) + 1)
redis.call('HSET', base, 'head', head.version, 'head_etag', head.etag, 'head_hash', head.hash,
           'head_at', number_text(at_us), 'state', 'live', 'archived', '0',
           'shelf', request.shelf, 'restored_by', request.operation,
           'refreshed_at', number_text(now_ms),
           'epoch', number_text(math.max(tonumber(fields[10] or '0'),
                                         tonumber(request.container.epoch or '0')) + 1))
if hold ~= '' then
  redis.call('HSET', base, 'hold', hold)
end
local held, life_ms = is_held(base), chunk_life_ms(base, request.backstop_ms)
for i, chunk in ipairs(request.staged) do
  redis.call('RENAME', request.staging .. (i - 1), base .. ':chunks:' .. number_text(chunk[1]))
  keep_chunk(base, chunk[1], held, life_ms)
end
redis.call('SET', base .. ':version', head.version)
for i = 2, #ARGV, 2 do
  redis.call('HSET', base .. ':manifests', ARGV[i], ARGV[i + 1])
end
put_all(':metadata', request.metadata)
redis.call('HSET', base .. ':metadata', 'version', head.version, 'etag', head.etag,
           'updated_at', number_text(now_ms), 'last_accessed_at', number_text(now_ms),
           'last_accessed_by', request.agent)
for _, entry in ipairs(request.history) do
  redis.call('ZADD', base .. ':history', entry[2], entry[1])
end
redis.call('ZADD', base .. ':history', string.format('%.6f', at_us / 1000000),
           head.version .. ':' .. head.hash)
put_all(':past', request.past)
put_all(':authors', request.authors)
redis.call('HSET', base .. ':authors', request.agent, head.version)
put_all(':tags', request.tags)
for _, entry in ipairs(request.checkpoints) do
  redis.call('RPUSH', base .. ':checkpoints', entry)
end
if request.wrapped_key ~= '' then
  redis.call('SET', base .. ':key', request.wrapped_key)
end
-- Readers append with RPUSHX, so the list must exist; its first element is this marker.
redis.call('RPUSH', base .. ':access', 'notes')
append_audit(base, {at = now_ms, agent = request.agent, operation = 'restored',
                    version = head.version, caller = request.caller,
                    details = {shelf = request.shelf, copy = request.copy, etag = head.etag}})
expire_small_keys(base, request.backstop_ms)
return {'restored', head.version, head.etag, number_text(at_us)}
