-- Does: takes up to ARGV[1] notes of reads off a session and records them: last access in the
--       metadata, one audit entry for each agent and version. The time is Redis', never a reader's.
-- KEYS[1]: the session's base key
-- ARGV[1]: notes at most   ARGV[2]: backstop in ms
-- Returns: {notes taken, notes left, refresh due 0|1}
-- Errors:  none of its own; a note that is not JSON is counted in the audit as malformed
-- include: expiry.lua
local base = KEYS[1]
local access = base .. ':access'
local backstop_ms = tonumber(ARGV[2])
local notes = redis.call('LRANGE', access, 1, tonumber(ARGV[1]))
if #notes == 0 or redis.call('HGET', base, 'state') ~= 'live' then
  return {0, 0, 0}
end
local now_ms = math.floor(redis_now_us() / 1000)
local order, reads, last_agent, seen = {}, {}, nil, {}
for _, note in ipairs(notes) do
  local ok, decoded = pcall(cjson.decode, note)
  local agent, version, count = '', 'malformed', 1
  if ok and type(decoded) == 'table' then
    agent = tostring(decoded.agent or '')
    version = tostring(decoded.version or '')
    count = tonumber(decoded.reads) or 1
  end
  local key = agent .. '\n' .. version
  if not reads[key] then
    order[#order + 1] = key
    reads[key] = {agent = agent, version = version, count = 0}
  end
  -- A note whose answer was lost is sent again, letter by letter the same.
  if not seen[note] then
    seen[note] = true
    reads[key].count = reads[key].count + count
  end
  last_agent = agent
end

redis.call('LTRIM', access, #notes, -1)
redis.call('LSET', access, 0, 'notes')
redis.call('HSET', base .. ':metadata', 'last_accessed_at', number_text(now_ms),
           'last_accessed_by', last_agent)
for _, key in ipairs(order) do
  local read = reads[key]
  append_audit(base, {at = now_ms, agent = read.agent, operation = 'read',
                      version = read.version, details = {reads = read.count}})
end
local due = 0
if refresh_is_due(base, backstop_ms, now_ms) then
  if tonumber(redis.call('HGET', base, 'next_chunk') or '0') <= SLICE then
    refresh_all(base, backstop_ms, now_ms)
  else
    due = 1
  end
end
return {#notes, redis.call('LLEN', access) - 1, due}
