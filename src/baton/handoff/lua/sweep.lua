-- Does: looks at what is due in one handoff: leases that lapsed, messages that nobody came for,
--       joins that did not happen. Changes their state, and answers what to publish again.
-- KEYS[1]: the handoff's base key
-- ARGV[1]: members at most   ARGV[2]: "1" if messages are still queued, so that a node nobody came
--          for has probably just not had its turn
-- Returns: {state, publish JSON, members looked at, 1 if results, drafts and plans are to be given
--          their whole time again}
-- Errors:  none of its own
-- include: tree.lua
-- include: window.lua
-- include: budget.lua
local base = KEYS[1]
local state, patience, max_attempts, deadline =
  unpack(header(base, 'state', 'patience_ms', 'max_attempts', 'deadline_at'))
if state ~= 'running' and state ~= 'joining' then
  return {state or 'gone', '[]', 0, 0}
end
local now_ms = redis_now_ms()
local patience_ms = tonumber(patience)
local publish = {}
local queued = ARGV[2] == '1'
local FIRST_SKIPS = 4

-- A long queue is borne with, twice as long each time: its messages were probably not lost. Not so
-- for a node that lost its worker: where workers die, messages that they had taken do, too.
local function publish_again(id, node)
  local bears = queued and not node.unpublished and not node.losses
                and (node.bears or FIRST_SKIPS) or 0
  node.skipped = (node.skipped or 0) + 1
  if node.skipped > bears then
    node.unpublished, node.skipped, node.bears = nil, 0, bears > 0 and 2 * bears or nil
    publish[#publish + 1] = {'run', id}
  end
  save_node(base, id, node)
  wake_at(base, id, now_ms + patience_ms)
end

local function look_at(id, node, due_ms)
  if node.state == 'waiting' then
    local barred = barred_state(base, id, node, deadline, now_ms)
    if barred then
      end_node(base, id, node, barred, now_ms, publish)
    else
      publish_again(id, node)
    end
  elseif node.state ~= 'leased' then
    redis.call('ZREM', base .. ':due', id)
  elseif is_stopped(base, id) then
    end_node(base, id, node, 'cancelled', now_ms, publish)
  elseif due_ms >= node.deadline then
    -- Its lease was renewed up to its deadline; one that lapsed before was a lost worker's,
    -- however late this sweep comes.
    node.error_type = node.by_deadline and 'OverBudgetError' or 'TimeoutError'
    node.error = node.by_deadline and "the handoff's deadline passed while it ran"
                 or 'it ran longer than its timeout of '
                    .. string.format('%g s', (node.deadline - node.claimed_at) / 1000)
    end_node(base, id, node, node.by_deadline and 'over_budget' or 'failed', now_ms, publish)
  elseif node.attempt >= tonumber(max_attempts) then
    node.error_type = 'LostError'
    node.error = 'its worker was lost in each of ' .. number_text(node.attempt) .. ' attempts'
    end_node(base, id, node, 'lost', now_ms, publish)
  else
    node.losses = (node.losses or 0) + 1
    move(base, id, node, 'waiting')
    save_node(base, id, node)
    wake_at(base, id, now_ms + patience_ms)
    publish[#publish + 1] = {'run', id}
  end
end

-- What nodes left behind early must last until the end, however late that comes.
local kept_at, created_at, retention = unpack(header(base, 'kept_at', 'created_at', 'retention_ms'))
local keep = now_ms - tonumber(kept_at or created_at) > tonumber(retention) / 4
if keep then
  redis.call('HSET', base, 'kept_at', number_text(now_ms))
end
lapse_permits(base, now_ms)
local members = redis.call('ZRANGEBYSCORE', base .. ':due', '-inf', number_text(now_ms),
                           'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[1]))
for i = 1, #members, 2 do
  local member, due_ms = members[i], tonumber(members[i + 1])
  if member == 'start' or member == 'join' then
    wake_at(base, member, now_ms + patience_ms)
    publish[#publish + 1] = {member}
  else
    local node = load_node(base, member)
    if node then
      look_at(member, node, due_ms)
    else
      redis.call('ZREM', base .. ':due', member)
    end
  end
end
local more = fill_window(base, publish, now_ms)
keep_alive(base, true)
return {redis.call('HGET', base, 'state'), publish_json(publish),
        more and tonumber(ARGV[1]) or #members / 2, keep and 1 or 0}
