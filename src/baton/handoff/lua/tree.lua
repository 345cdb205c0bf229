-- Shared by the handoff scripts: node states, counters, events, and what follows from an end.
--
-- A node is waiting -> leased -> ok | failed | cancelled | lost | over_budget, with leased ->
-- suspended -> waiting around its children; who has not begun where `fail_fast` stops the others, or
-- follows one in a chain that did not end ok, is skipped. The counters `n:<state>` of the base hash
-- always add up to `total`.
-- Scripts return what is to be published, as {"run", node}, {"next", node} of a chain, {"join"}, or
-- {"cancel"} for the rest; publishing twice is harmless, and what is never published is found by
-- the sweep, through the `due` set.
-- Of the waiting nodes only a window is published, and in `due`; the others are in `queue` (see
-- window.lua), or behind a node of their chain. `queued` counts both.
local TERMINAL = {ok = true, failed = true, cancelled = true, lost = true, skipped = true,
                  over_budget = true}
local FAILS_FAST = {failed = true, lost = true, over_budget = true}
local MAX_EVENTS = 20000
local SKIPPED_AT_ONCE = 100
local ended_so_far = 0  -- by this call

local function redis_now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function number_text(n)
  return string.format('%.0f', n)
end

local function header(base, ...)
  return redis.call('HMGET', base, ...)
end

local function parent_of(id)
  return string.match(id, '^(.*)%.[^.]+$') or ''
end

-- The hash with a node's plan: its siblings' too.
local function plan_of(base, id)
  local parent_id = parent_of(id)
  return parent_id == '' and base .. ':plan' or base .. ':plan:' .. parent_id
end

-- A node that nothing has happened to yet has a plan and no entry.
local function load_node(base, id)
  local stored = redis.call('HGET', base .. ':nodes', id)
  if stored then
    return cjson.decode(stored)
  end
  if redis.call('HEXISTS', plan_of(base, id), id) == 1 then
    return {state = 'waiting', fence = 0, attempt = 0, step = 0, children = 0}
  end
  return nil
end

-- The one before a node in its chain, or nil.
local function node_before(base, id)
  local before = parent_of(id) ~= '' and redis.call('HGET', plan_of(base, id), id .. ':after')
  return before and load_node(base, before) or nil
end

local function save_node(base, id, node)
  redis.call('HSET', base .. ':nodes', id, cjson.encode(node))
end

local function emit(base, event)
  redis.call('XADD', base .. ':events', 'MAXLEN', '~', MAX_EVENTS, '*', 'event',
             cjson.encode(event))
end

local function wake_at(base, member, at_ms)
  redis.call('ZADD', base .. ':due', number_text(at_ms), member)
end

local function move(base, id, node, state)
  redis.call('HINCRBY', base, 'n:' .. node.state, -1)
  redis.call('HINCRBY', base, 'n:' .. state, 1)
  node.state = state
  emit(base, {type = 'node', node = id, state = state, attempt = node.attempt,
              error = node.error, worker = node.worker})
end

-- What nearly every script may have created lives on from each change; the rest from the start, the
-- end, and every sweep, and where it is made.
local function keep_alive(base, all)
  local retention_ms = tonumber(redis.call('HGET', base, 'retention_ms'))
  for _, suffix in ipairs({'', ':nodes', ':due', ':events'}) do
    redis.call('PEXPIRE', base .. suffix, retention_ms)
  end
  if all then
    for _, suffix in ipairs({':plan', ':queue', ':budget', ':permits', ':permit_ends', ':package',
                             ':merged'}) do
      redis.call('PEXPIRE', base .. suffix, retention_ms)
    end
  end
  return retention_ms
end

-- Whether a node may no longer run: the handoff was cancelled, or its part of the tree; `cuts` are
-- the nodes that were, with commas between.
local function is_stopped(base, id)
  local cancelled, cuts = unpack(header(base, 'cancelled_at', 'cuts'))
  if cancelled or not cuts then
    return cancelled ~= false
  end
  cuts = ',' .. cuts .. ','
  while id ~= '' do
    if string.find(cuts, ',' .. id .. ',', 1, true) then
      return true
    end
    id = parent_of(id)
  end
  return false
end

local function end_handoff(base, state, now_ms)
  redis.call('HSET', base, 'state', state, 'ended_at', number_text(now_ms))
  redis.call('DEL', base .. ':due', base .. ':queue')
  redis.call('HSET', base, 'queued', 0)
  emit(base, {type = 'handoff', state = state})
  keep_alive(base, true)
end

-- What becomes of a node that waits in a handoff that was cancelled, or that has failed fast.
local function stopped_state(base, node)
  local failed_fast = redis.call('HEXISTS', base, 'failed_fast') == 1
  return failed_fast and not node.started_at and 'skipped' or 'cancelled'
end

local function cancel(base, now_ms)
  if redis.call('HSETNX', base, 'cancelled_at', number_text(now_ms)) == 1 then
    emit(base, {type = 'handoff', state = 'cancelling'})
  end
end

local function fail_fast(base, id, node, now_ms)
  redis.call('HSET', base, 'failed_fast', id, 'error_type', node.error_type or '', 'error',
             'node ' .. id .. ': ' .. (node.error or 'it failed') .. '; the others were stopped')
  cancel(base, now_ms)
end

-- Nothing of it is left to publish then.
local function end_stopped(base, now_ms, publish)
  for i = #publish, 1, -1 do
    publish[i] = nil
  end
  local failed_fast = redis.call('HEXISTS', base, 'failed_fast') == 1
  end_handoff(base, failed_fast and 'failed' or 'cancelled', now_ms)
end

-- One node's own end.
local function set_end(base, id, node, state, now_ms)
  ended_so_far = ended_so_far + 1
  node.ended_at = now_ms
  move(base, id, node, state)
  save_node(base, id, node)
  redis.call('ZREM', base .. ':due', id)
end

-- What a chain makes of the end of one of its nodes: the next may begin, or none behind it will.
-- Adds to `publish`; returns how many ended.
local function go_on_with_chain(base, id, state, now_ms, patience_ms, publish)
  local plan = plan_of(base, id)
  local next_id = redis.call('HGET', plan, id .. ':next')
  if next_id and state == 'ok' then
    if load_node(base, next_id).state ~= 'waiting' then
      return 0
    end
    redis.call('HINCRBY', base, 'queued', -1)
    wake_at(base, next_id, now_ms + patience_ms)
    publish[#publish + 1] = {'next', next_id}
    return 0
  end
  local ended = 0
  while next_id do
    local node = load_node(base, next_id)
    if node.state ~= 'waiting' then
      return ended  -- of a retry: it ended before
    end
    if ended == SKIPPED_AT_ONCE then  -- the rest when its turn in the queue comes
      redis.call('LPUSH', base .. ':queue', (string.gsub(next_id, '(%d+)$', ':%1:%1')))
      keep_alive(base, true)
      return ended
    end
    local stopped = is_stopped(base, next_id)
    redis.call('HINCRBY', base, 'queued', -1)
    set_end(base, next_id, node, stopped and stopped_state(base, node) or 'skipped', now_ms)
    ended = ended + 1
    next_id = redis.call('HGET', plan, next_id .. ':next')
  end
  return ended
end

-- Ends a node and everything that follows from it: the rest of its chain; its parent goes on when
-- its last child has ended, the handoff joins when its last first-level node has. Adds to `publish`.
local function end_node(base, id, node, state, now_ms, publish)
  local cancelled, patience, policy = unpack(header(base, 'cancelled_at', 'patience_ms', 'policy'))
  local patience_ms = tonumber(patience)
  if policy == 'fail_fast' and not cancelled and FAILS_FAST[state] then
    fail_fast(base, id, node, now_ms)
    cancelled = now_ms
    publish[#publish + 1] = {'cancel'}
  end
  while true do
    set_end(base, id, node, state, now_ms)
    local parent_id = parent_of(id)
    if parent_id == '' then
      if redis.call('HINCRBY', base, 'pending', -1) > 0 then
        return
      end
      if cancelled then
        end_stopped(base, now_ms, publish)
        return
      end
      redis.call('HSET', base, 'state', 'joining')
      emit(base, {type = 'handoff', state = 'joining'})
      wake_at(base, 'join', now_ms + patience_ms)
      publish[#publish + 1] = {'join'}
      return
    end
    local parent = load_node(base, parent_id)
    local ended = 1
    if parent.chains then
      ended = ended + go_on_with_chain(base, id, state, now_ms, patience_ms, publish)
    end
    parent.pending = parent.pending - ended
    if parent.pending > 0 or parent.state ~= 'suspended' then
      save_node(base, parent_id, parent)
      return
    end
    if not is_stopped(base, parent_id) then
      parent.step = parent.step + 1
      parent.attempt = 0
      move(base, parent_id, parent, 'waiting')
      save_node(base, parent_id, parent)
      wake_at(base, parent_id, now_ms + patience_ms)
      publish[#publish + 1] = {'run', parent_id}
      return
    end
    id, node, state = parent_id, parent, 'cancelled'
  end
end
