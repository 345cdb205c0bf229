-- Does: renews a lease, never past the node's own timeout
-- KEYS[1]: the handoff's base key
-- ARGV[1]: node or "join"   ARGV[2]: fencing token
-- Returns: "held", "cancelled" (still held, but stop), or "lost"
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local id = ARGV[1]
local state, lease_ms, join_fence = unpack(header(base, 'state', 'lease_ms', 'join_fence'))
local until_ms = redis_now_ms() + tonumber(lease_ms or '0')
if id == 'join' then
  if state ~= 'joining' or join_fence ~= ARGV[2] then
    return 'lost'
  end
  redis.call('HSET', base, 'join_until', number_text(until_ms))
  wake_at(base, 'join', until_ms)
  keep_alive(base)
  return 'held'
end
local node = state == 'running' and load_node(base, id)
if not node or node.state ~= 'leased' or node.fence ~= tonumber(ARGV[2]) then
  return 'lost'
end
wake_at(base, id, math.min(until_ms, node.deadline))
redis.call('PEXPIRE', plan_of(base, id), keep_alive(base, true))
return is_stopped(base, id) and 'cancelled' or 'held'
