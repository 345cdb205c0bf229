-- Does: gives a waiting node to a worker: state, lease and a fencing token that only rises. Asked
--       twice by the same claimant, answers the same.
-- KEYS[1]: the handoff's base key
-- ARGV[1]: node   ARGV[2]: worker   ARGV[3]: the claimant's operation id
-- Returns: {"claimed", fence, attempt, step, children, plan JSON, then, session, version, agent,
--          depth limit, children limit, nodes left, timeout ms, lease ms}
--          or {"refused", the node's or handoff's state, publish JSON}
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local id = ARGV[1]
local state, cancelled, max_attempts, lease_ms, timeout_ms =
  unpack(header(base, 'state', 'cancelled_at', 'max_attempts', 'lease_ms', 'timeout_ms'))
if state ~= 'running' or cancelled then
  return {'refused', cancelled and 'cancelled' or state or 'gone', '[]'}
end
local node = load_node(base, id)

local function claimed()
  local session, version, agent, depth, children, max_nodes, total =
    unpack(header(base, 'session', 'version', 'agent', 'max_depth', 'max_children', 'max_nodes',
                  'total'))
  local plan = redis.call('HMGET', base .. ':plan', id, id .. ':then')
  return {'claimed', node.fence, node.attempt, node.step, node.children, plan[1], plan[2] or '',
          session, version, agent, tonumber(depth), tonumber(children),
          tonumber(max_nodes) - tonumber(total), tonumber(timeout_ms), tonumber(lease_ms)}
end

if node and node.state == 'leased' and node.claimed_by == ARGV[3] then
  return claimed()
end
if not node or node.state ~= 'waiting' then
  return {'refused', node and node.state or 'gone', '[]'}
end
local now_ms = redis_now_ms()
if node.attempt >= tonumber(max_attempts) then
  local publish = {}
  node.error_type = node.error_type or 'LostError'
  node.error = node.error or ('no attempt of ' .. max_attempts .. ' came to an end')
  end_node(base, id, node, 'lost', now_ms, publish)
  return {'refused', 'lost', #publish > 0 and cjson.encode(publish) or '[]'}
end
node.fence = node.fence + 1
node.attempt = node.attempt + 1
node.worker = ARGV[2]
node.claimed_by = ARGV[3]
node.claimed_at = now_ms
node.started_at = node.started_at or now_ms
node.deadline = now_ms + tonumber(timeout_ms)
node.unpublished, node.skipped, node.bears = nil, nil, nil
move(base, id, node, 'leased')
save_node(base, id, node)
wake_at(base, id, math.min(now_ms + tonumber(lease_ms), node.deadline))
keep_alive(base)
return claimed()
