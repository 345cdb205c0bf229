-- Does: cancels a handoff: no node can be claimed from the first call on; ends waiting nodes, a
--       slice a call. Leased nodes end when their workers notice, or when their leases lapse.
--       Before the slices, start.lua must have entered every first-level node into `due`.
-- KEYS[1]: the handoff's base key
-- ARGV[1]: members to look at   ARGV[2]: how many to skip, passed over before
-- Returns: {state, waiting nodes left, members passed over in this slice, members looked at}
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local state = redis.call('HGET', base, 'state')
if state ~= 'running' then
  return {state or 'gone', 0, 0, 0}
end
local now_ms = redis_now_ms()
cancel(base, now_ms)
local skip = tonumber(ARGV[2])
local ids = redis.call('ZRANGE', base .. ':due', skip, skip + tonumber(ARGV[1]) - 1)
local passed = 0
for _, id in ipairs(ids) do
  local node = load_node(base, id)
  if node and node.state == 'waiting' then
    end_node(base, id, node, stopped_state(base, node), now_ms, {})
  elseif node and TERMINAL[node.state] then
    redis.call('ZREM', base .. ':due', id)
  else
    -- Leased; or `start`, which stays until the first level is in `due`: it is what the sweep
    -- would go on from if this client died here.
    passed = passed + 1
  end
end
keep_alive(base)
return {redis.call('HGET', base, 'state'),
        tonumber(redis.call('HGET', base, 'n:waiting') or '0'), passed, #ids}
