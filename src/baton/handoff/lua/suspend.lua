-- Does: ends a node's run by waiting for children: writes their whole plan and its own suspension
-- KEYS[1]: the handoff's base key
-- ARGV[1]: node   ARGV[2]: fencing token   ARGV[3]: number of children
-- ARGV[4]: staging key of a hash child id -> plan JSON (and "then")   ARGV[5]: staging key of the
--          node's draft
-- Returns: {"suspended", first child's index}; {"fenced", state}; {"cancelled", publish JSON};
--          {"limit", name, value}; {"missing", ""}. Asked twice, answers the same.
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local id = ARGV[1]
local fence = tonumber(ARGV[2])
local count = tonumber(ARGV[3])
local node = load_node(base, id)
if not node then
  return {'fenced', 'gone'}
end
if node.suspended_by == fence and node.fence == fence then
  return {'suspended', node.first_child}
end
if node.state ~= 'leased' or node.fence ~= fence then
  return {'fenced', node.state}
end
local cancelled, total, max_nodes, patience, retention_ms =
  unpack(header(base, 'cancelled_at', 'total', 'max_nodes', 'patience_ms', 'retention_ms'))
local now_ms = redis_now_ms()
if cancelled then
  local publish = {}
  end_node(base, id, node, 'cancelled', now_ms, publish)
  return {'cancelled', '[]'}
end
if tonumber(total) + count > tonumber(max_nodes) then
  return {'limit', 'handoff_max_nodes', tonumber(max_nodes)}
end
local staged = redis.call('HGETALL', ARGV[4])
if #staged ~= 2 * (count + 1) or redis.call('EXISTS', ARGV[5]) == 0 then
  return {'missing', ''}
end

for first = 1, #staged, 1000 do
  redis.call('HSET', base .. ':plan', unpack(staged, first, math.min(first + 999, #staged)))
end
redis.call('DEL', ARGV[4])
redis.call('RENAME', ARGV[5], base .. ':drafts:' .. id)
redis.call('PEXPIRE', base .. ':drafts:' .. id, tonumber(retention_ms))
node.first_child = node.children
local wakes, wake_ms = {}, number_text(now_ms + tonumber(patience))
for index = node.children, node.children + count - 1 do
  wakes[#wakes + 1] = wake_ms
  wakes[#wakes + 1] = id .. '.' .. number_text(index)
end
for first = 1, #wakes, 1000 do
  redis.call('ZADD', base .. ':due', unpack(wakes, first, math.min(first + 999, #wakes)))
end
node.children = node.children + count
node.pending = count
node.suspended_by = fence
redis.call('HINCRBY', base, 'total', count)
redis.call('HINCRBY', base, 'n:waiting', count)
redis.call('ZREM', base .. ':due', id)
move(base, id, node, 'suspended')
save_node(base, id, node)
keep_alive(base)
return {'suspended', node.first_child}
