-- Shared by the scripts that publish nodes: a handoff's waiting nodes beyond its window are queued,
-- so that it holds up other handoffs by a window at most, and the broker by no more.
--
-- `queue` is a list of ranges "prefix:first:last", the node ids being prefix .. number; the one to go
-- first is at its head. Needs tree.lua.
local DRAINED_AT_ONCE = 100

-- Takes the next node off the queue.
local function pop_queued(base)
  local entry = redis.call('LINDEX', base .. ':queue', 0)
  if not entry then
    return nil
  end
  local prefix, first, last = string.match(entry, '^(.*):(%d+):(%d+)$')
  if first == last then
    redis.call('LPOP', base .. ':queue')
  else
    redis.call('LSET', base .. ':queue', 0,
               prefix .. ':' .. number_text(tonumber(first) + 1) .. ':' .. last)
  end
  redis.call('HINCRBY', base, 'queued', -1)
  return prefix .. first
end

-- What becomes of a waiting node that can no longer begin, or nil if it can.
local function barred_state(base, id, node, deadline, now_ms)
  if is_stopped(base, id) then
    return stopped_state(base, node)
  end
  local before = node_before(base, id)
  if before and TERMINAL[before.state] and before.state ~= 'ok' then
    return 'skipped'
  end
  if deadline and now_ms >= tonumber(deadline) then
    node.error_type = 'OverBudgetError'
    node.error = "the handoff's deadline passed before it could begin"
    return 'over_budget'
  end
  return nil
end

-- Publishes queued nodes while the window has room, and ends those that can no longer begin: a
-- bounded number, returns whether more of them may be left.
local function fill_window(base, publish, now_ms)
  local state, window, queued, waiting, leased, patience, deadline, begun, cancelled =
    unpack(header(base, 'state', 'window', 'queued', 'n:waiting', 'n:leased', 'patience_ms',
                  'deadline_at', 'begun', 'cancelled_at'))
  if state ~= 'running' or tonumber(queued or '0') <= 0 then
    return false
  end
  -- Whoever takes `handoff.start` has its package checked first.
  if not begun and not cancelled and not (deadline and now_ms >= tonumber(deadline)) then
    return false
  end
  local out = tonumber(waiting or '0') + tonumber(leased or '0') - tonumber(queued)
  local room = math.max(tonumber(window) - out, 0)
  local full_at = ended_so_far + DRAINED_AT_ONCE
  while room > 0 and ended_so_far < full_at do
    local id = pop_queued(base)
    if not id then
      return false
    end
    local node = load_node(base, id)
    if node and node.state == 'waiting' then
      local barred = barred_state(base, id, node, deadline, now_ms)
      if barred then
        end_node(base, id, node, barred, now_ms, publish)
      else
        wake_at(base, id, now_ms + tonumber(patience))
        publish[#publish + 1] = {'run', id}
        room = room - 1
      end
    end
  end
  return ended_so_far >= full_at
end

-- Has the window filled by whoever takes the message, once a quarter of it is empty: publishing
-- node by node would cost the workers more than running them. `start` in `due` says that it has
-- been asked for; a message that is lost is published again by the sweep.
local function ask_for_more(base, publish, now_ms)
  local state, window, queued, waiting, leased, patience =
    unpack(header(base, 'state', 'window', 'queued', 'n:waiting', 'n:leased', 'patience_ms'))
  if state ~= 'running' or tonumber(queued or '0') <= 0 then
    return
  end
  local out = tonumber(waiting or '0') + tonumber(leased or '0') - tonumber(queued)
  if tonumber(window) - out < math.max(tonumber(window) / 4, 1)
     or redis.call('EXISTS', base .. ':queue') == 0 then
    return
  end
  local again_at = number_text(now_ms + tonumber(patience))
  if redis.call('ZADD', base .. ':due', 'NX', again_at, 'start') == 1 then
    publish[#publish + 1] = {'start'}
  end
end

local function publish_json(publish)
  return #publish > 0 and cjson.encode(publish) or '[]'
end
