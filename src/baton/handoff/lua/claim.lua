-- Does: gives a waiting node to a worker: state, lease and a fencing token that only rises. Asked
--       twice by the same claimant, answers the same.
-- KEYS[1]: the handoff's base key
-- ARGV[1]: node   ARGV[2]: worker   ARGV[3]: the claimant's operation id
-- ARGV[4]: "1" if it is to run in a process of its own, as {"refused", "apart", "[]"} asked for
-- Returns: {"claimed", fence, attempt, step, children, plan JSON, then, session, version, agent,
--          depth limit, children limit, nodes left, timeout ms, lease ms, "1" if the handoff's
--          deadline sets the timeout, the node before it in its chain or ""}
--          or {"refused", the node's or handoff's state, publish JSON}
-- Errors:  none of its own
-- include: tree.lua
-- include: window.lua
local APART_AFTER_LOSSES = 2
local APART_START_MS = 30000
local base = KEYS[1]
local id = ARGV[1]
local state, cancelled, max_attempts, lease_ms, timeout_ms, deadline, patience, begun =
  unpack(header(base, 'state', 'cancelled_at', 'max_attempts', 'lease_ms', 'timeout_ms',
                'deadline_at', 'patience_ms', 'begun'))
if state ~= 'running' or cancelled then
  return {'refused', cancelled and 'cancelled' or state or 'gone', '[]'}
end
local node = load_node(base, id)
local plan, after = unpack(redis.call('HMGET', plan_of(base, id), id, id .. ':after'))

local function claimed()
  local session, version, agent, depth, children, max_nodes, total =
    unpack(header(base, 'session', 'version', 'agent', 'max_depth', 'max_children', 'max_nodes',
                  'total'))
  local continuation = node.step > 0 and redis.call('HGET', base .. ':plan:' .. id, 'then') or ''
  return {'claimed', node.fence, node.attempt, node.step, node.children, plan, continuation,
          session, version, agent, tonumber(depth), tonumber(children),
          tonumber(max_nodes) - tonumber(total), node.deadline - node.claimed_at,
          tonumber(lease_ms), node.by_deadline and '1' or '0', after or ''}
end

if node and node.state == 'leased' and node.claimed_by == ARGV[3] then
  return claimed()
end
if not node or node.state ~= 'waiting' then
  return {'refused', node and node.state or 'gone', '[]'}
end
if after and load_node(base, after).state ~= 'ok' then
  return {'refused', 'waiting', '[]'}
end
local now_ms = redis_now_ms()

local function refuse(with_state)
  local publish = {}
  end_node(base, id, node, with_state, now_ms, publish)
  fill_window(base, publish, now_ms)
  keep_alive(base)
  return {'refused', with_state, publish_json(publish)}
end

local barred = barred_state(base, id, node, deadline, now_ms)
if barred then
  return refuse(barred)
end
if not plan then
  node.error_type, node.error = 'LostError', 'its plan has expired'
  return refuse('lost')
end
if node.attempt >= tonumber(max_attempts) then
  node.error_type = node.error_type or 'LostError'
  node.error = node.error or ('no attempt of ' .. max_attempts .. ' came to an end')
  return refuse('lost')
end
if (node.losses or 0) >= APART_AFTER_LOSSES and ARGV[4] ~= '1' then
  -- Were it published again before the process has begun, it would get one more each time.
  wake_at(base, id, now_ms + math.max(tonumber(patience), APART_START_MS))
  return {'refused', 'apart', '[]'}
end
if not begun then
  redis.call('HSET', base, 'begun', 1)  -- by messages of an earlier round, say
end
node.fence = node.fence + 1
node.attempt = node.attempt + 1
node.worker = ARGV[2]
node.claimed_by = ARGV[3]
node.claimed_at = now_ms
node.started_at = node.started_at or now_ms
node.deadline = now_ms + tonumber(timeout_ms)
node.by_deadline = deadline and tonumber(deadline) < node.deadline or nil
if node.by_deadline then
  node.deadline = tonumber(deadline)
end
node.unpublished, node.skipped, node.bears = nil, nil, nil
move(base, id, node, 'leased')
save_node(base, id, node)
wake_at(base, id, math.min(now_ms + tonumber(lease_ms), node.deadline))
local retention_ms = keep_alive(base)
redis.call('PEXPIRE', plan_of(base, id), retention_ms)
return claimed()
