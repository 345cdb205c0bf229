-- Does: notes that the first-level nodes are being published: the sweep now looks after them, a
--       slice a call, rather than after the start
-- KEYS[1]: the handoff's base key
-- ARGV[1]: index of the first node of this slice   ARGV[2]: nodes in a slice
-- Returns: {state, first-level nodes, next index or -1}
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local state, first_level, patience = unpack(header(base, 'state', 'first_level', 'patience_ms'))
if state ~= 'running' then
  return {state or '', 0, -1}
end
local now_ms = redis_now_ms()
local count = tonumber(first_level)
local first = tonumber(ARGV[1])
local last = math.min(first + tonumber(ARGV[2]), count) - 1
for slot = first, last do
  local id = number_text(slot)
  if not redis.call('HGET', base .. ':nodes', id) then
    redis.call('ZADD', base .. ':due', 'NX', number_text(now_ms + tonumber(patience)), id)
  end
end
if last + 1 < count then
  return {state, count, last + 1}
end
redis.call('ZREM', base .. ':due', 'start')
keep_alive(base)
return {state, count, -1}
