-- Does: ends a node's run by waiting for children: writes their whole plan and its own suspension
-- KEYS[1]: the handoff's base key
-- ARGV[1]: node   ARGV[2]: fencing token   ARGV[3]: number of children
-- ARGV[4]: staging key of a hash: child id -> plan JSON, "{child}:after" and "{child}:next" in
--          chains, and "then"   ARGV[5]: staging key of the node's draft
-- ARGV[6]: JSON {fields: how many the hash has, ranges: [[first, last], ..] of the children that
--          wait for no other, chains: bool, shares: {child: {tokens, nano}}, usage, cost_nano: what
--          no permit was settled for, details: JSON text to be kept, or "", refused_children: asked
--          for beyond the limits}
-- Returns: {"suspended", publish JSON}; {"fenced", state}; {"cancelled", publish JSON};
--          {"limit", name, value}; {"missing", ""}. Asked twice, answers the same, but publishes
--          what then waits of its children.
-- Errors:  none of its own
-- include: tree.lua
-- include: window.lua
-- include: budget.lua
local MAX_EARLIER = 50
local base = KEYS[1]
local id = ARGV[1]
local fence = tonumber(ARGV[2])
local count = tonumber(ARGV[3])
local node = load_node(base, id)
if not node then
  return {'fenced', 'gone'}
end
local request = cjson.decode(ARGV[6])
local publish = {}
if node.suspended_by == fence and node.fence == fence then
  for _, range in ipairs(request.ranges) do
    for slot = range[1], range[2] do
      local child = id .. '.' .. number_text(slot)
      if #publish < 128 and redis.call('ZSCORE', base .. ':due', child) then
        publish[#publish + 1] = {'run', child}
      end
    end
  end
  return {'suspended', publish_json(publish)}
end
if node.state ~= 'leased' or node.fence ~= fence then
  return {'fenced', node.state}
end
local total, max_nodes, retention = unpack(header(base, 'total', 'max_nodes', 'retention_ms'))
local now_ms, retention_ms = redis_now_ms(), tonumber(retention)
if is_stopped(base, id) then
  spend(base, id, node, request.usage, request.cost_nano)
  end_node(base, id, node, 'cancelled', now_ms, publish)
  fill_window(base, publish, now_ms)
  keep_alive(base)
  return {'cancelled', publish_json(publish)}
end
if tonumber(total) + count > tonumber(max_nodes) then
  redis.call('HINCRBY', base, 'refused_children', count)
  return {'limit', 'handoff_max_nodes', tonumber(max_nodes)}
end
if redis.call('HLEN', ARGV[4]) ~= request.fields or redis.call('EXISTS', ARGV[5]) == 0 then
  return {'missing', ''}
end

-- A node spawns once, as a rule: then thousands of plans cost no more than one.
local plan = base .. ':plan:' .. id
if redis.call('EXISTS', plan) == 0 then
  redis.call('RENAME', ARGV[4], plan)
else
  local staged = redis.call('HGETALL', ARGV[4])
  for first = 1, #staged, 1000 do
    redis.call('HSET', plan, unpack(staged, first, math.min(first + 999, #staged)))
  end
  redis.call('DEL', ARGV[4])
end
redis.call('PEXPIRE', plan, retention_ms)
redis.call('RENAME', ARGV[5], base .. ':drafts:' .. id)
redis.call('PEXPIRE', base .. ':drafts:' .. id, retention_ms)
-- To the head: a tree that is finished branch by branch has fewer nodes half-way.
for i = #request.ranges, 1, -1 do
  local range = request.ranges[i]
  redis.call('LPUSH', base .. ':queue',
             id .. '.:' .. number_text(range[1]) .. ':' .. number_text(range[2]))
end
redis.call('PEXPIRE', base .. ':queue', retention_ms)
for child, share in pairs(request.shares) do
  for what, cap in pairs(share) do
    redis.call('HSET', base .. ':budget', child .. ':cap_' .. what, number_text(cap), 'shares', 1)
  end
end
redis.call('PEXPIRE', base .. ':budget', retention_ms)
spend(base, id, node, request.usage, request.cost_nano)
redis.call('HINCRBY', base, 'refused_children', request.refused_children)
if request.details ~= '' then
  node.earlier = node.earlier or {}
  node.earlier[#node.earlier % MAX_EARLIER + 1] = request.details
end
node.children = node.children + count
node.pending = count
node.chains = node.chains or request.chains or nil
node.suspended_by = fence
redis.call('HINCRBY', base, 'total', count)
redis.call('HINCRBY', base, 'n:waiting', count)
redis.call('HINCRBY', base, 'queued', count)
redis.call('ZREM', base .. ':due', id)
move(base, id, node, 'suspended')
save_node(base, id, node)
fill_window(base, publish, now_ms)
keep_alive(base)
return {'suspended', publish_json(publish)}
