-- Does: puts a batch of an imported envelope's checkpoints, and its flags: all of them or none. Done
--       again, it changes nothing.
-- KEYS[1]: the session's base key
-- ARGV[1]: JSON {version, agent, caller, limit, flags: [name]}
-- ARGV[2...]: the checkpoints, each in that version, as they are to be stored but for their time
-- Returns: {answer, found}, answer one of ok, absent, archived, no_version, too_many, exists; found:
--          where one is elsewhere already, its id
-- Errors:  none of its own
-- include: expiry.lua
-- include: audit.lua
local base = KEYS[1]
local request = cjson.decode(ARGV[1])
local place = base .. ':checkpoints'
local now_ms = math.floor(redis_now_us() / 1000)

check_audit(base)
local state, archived = unpack(redis.call('HMGET', base, 'state', 'archived'))
if state ~= 'live' then
  return {'absent', ''}
end
if archived == '1' then
  return {'archived', ''}
end
if #ARGV > 1 and redis.call('HEXISTS', base .. ':manifests', request.version) == 0 then
  return {'no_version', ''}
end

-- What is as it was stored is not decoded: that takes most of the time.
local function id_of(entry)
  return string.match(entry, '"checkpoint_id":"([^"]*)"') or ''
end

local function same_place(one, other)
  one, other = cjson.decode(one), cjson.decode(other)
  return one.version == other.version and one.byte_position == other.byte_position
    and one.label == other.label
end

local listed = redis.call('LRANGE', place, 0, -1)
local stored = {}
for _, entry in ipairs(listed) do
  stored[id_of(entry)] = entry
end
local added = {}
local ending = ',"created_at":' .. number_text(now_ms) .. '}'
for i = 2, #ARGV do
  local id, open_entry = id_of(ARGV[i]), string.sub(ARGV[i], 1, -2)
  local found = stored[id]
  if not found then
    added[#added + 1] = open_entry .. ending
  elseif string.sub(found, 1, #open_entry) ~= open_entry and not same_place(found, ARGV[i]) then
    return {'exists', id}
  end
end
if #added > 0 and #listed + #added > request.limit then
  return {'too_many', ''}
end
local raised = {}
for _, flag in ipairs(request.flags) do
  if redis.call('HGET', base, flag) ~= '1' then
    raised[#raised + 1] = flag
  end
end
if #added + #raised == 0 then
  return {'ok', ''}
end

-- Every check has passed; from here on only writes.
local function audit(operation, version, details)
  return {at = now_ms, agent = request.agent, operation = operation, version = version,
          caller = request.caller, details = details}
end

local entries = {}
if #added > 0 then
  redis.call('RPUSH', place, unpack(added))
  entries[1] = audit('checkpointed', request.version, {count = #added})
  adopt_expiry(base, {':checkpoints'})
end
for _, flag in ipairs(raised) do
  redis.call('HSET', base, flag, '1')
  entries[#entries + 1] = audit('flagged', '', {name = flag})
end
redis.call('HINCRBY', base, 'epoch', 1)
append_entries(base, entries)
return {'ok', ''}
