-- Does: puts or removes one mark of a session: a tag, a checkpoint, a pin, a flag. Done again, it
--       changes nothing.
-- KEYS[1]: the session's base key
-- ARGV[1]: JSON {id, kind, name, version, agent, caller, limit, move, expires_ms, fields}, kind one of
--          tag, untag, checkpoint, pin, unpin, flag; `version` is "" where the mark
--          names none, `fields` a checkpoint's own
-- Returns: {answer, time in ms, found}, answer one of ok, repeated, absent, archived, no_version,
--          exists, no_mark, too_many; found: the version, where there is a tag already the one that
--          it is on; of a checkpoint its entry as it is stored
-- Errors:  none of its own
-- include: expiry.lua
-- include: audit.lua
-- include: repeats.lua
local base = KEYS[1]
local request = cjson.decode(ARGV[1])
local kind, name, version = request.kind, request.name, request.version
local now_ms = math.floor(redis_now_us() / 1000)
local PLACES = {tag = ':tags', untag = ':tags', checkpoint = ':checkpoints', pin = ':pins',
                unpin = ':pins'}
local AUDITED = {tag = 'tagged', untag = 'untagged', checkpoint = 'checkpointed', pin = 'pinned',
                 unpin = 'unpinned', flag = 'flagged'}
local place = base .. (PLACES[kind] or '')

local function answer(kind_of_answer, found)
  return {kind_of_answer, number_text(now_ms), found or version}
end

check_audit(base)
local state, archived, done = unpack(redis.call('HMGET', base, 'state', 'archived', 'done'))
if state ~= 'live' then
  return answer('absent')
end
if archived == '1' then
  return answer('archived')
end
-- Before what was done under the id: the entry of a checkpoint is part of its answer.
local listed = kind == 'checkpoint' and redis.call('LRANGE', place, 0, -1) or {}
for _, entry in ipairs(listed) do
  if string.find(entry, '"checkpoint_id":"' .. name .. '"', 1, true) then
    return answer('repeated', entry)
  end
end
if done_as(done, request.id) then
  return answer('repeated')
end
if version ~= '' and redis.call('HEXISTS', base .. ':manifests', version) == 0 then
  return answer('no_version')
end
if kind == 'tag' then
  local found = redis.call('HGET', place, name)
  if found == version then
    return answer('repeated')
  end
  if found and not request.move then
    return answer('exists', found)
  end
  if not found and redis.call('HLEN', place) >= request.limit then
    return answer('too_many')
  end
elseif kind == 'checkpoint' then
  if #listed >= request.limit then
    return answer('too_many')
  end
elseif kind == 'pin' then
  if redis.call('HLEN', place) >= request.limit and redis.call('HEXISTS', place, name) == 0 then
    return answer('too_many')
  end
elseif kind == 'flag' then
  if redis.call('HGET', base, name) == '1' then
    return answer('repeated')
  end
elseif redis.call('HEXISTS', place, name) == 0 then
  return answer('no_mark')
end

-- Every check has passed; from here on only writes.
local written
if kind == 'tag' then
  redis.call('HSET', place, name, version)
elseif kind == 'checkpoint' then
  request.fields.created_at = now_ms
  written = cjson.encode(request.fields)
  redis.call('RPUSH', place, written)
elseif kind == 'pin' then
  redis.call('HSET', place, name,
             cjson.encode({version = version, expires_at = now_ms + request.expires_ms}))
elseif kind == 'flag' then
  redis.call('HSET', base, name, '1')
else
  redis.call('HDEL', place, name)
end
redis.call('HINCRBY', base, 'epoch', 1)
remember_done(base, request.id, 'ok')
append_audit(base, {at = now_ms, agent = request.agent, operation = AUDITED[kind],
                    version = version, caller = request.caller, details = {name = name}})
adopt_expiry(base, {PLACES[kind]})
return answer('ok', written)
