-- Shared by the scripts that publish nodes: a handoff's waiting nodes beyond its window are queued,
-- so that it holds up other handoffs by a window at most, and the broker by no more.
--
-- `queue` is a list of ranges "prefix:first:last", the node ids being prefix .. number; the one to go
-- first is at its head. Needs tree.lua.
local DRAINED_AT_ONCE = 200

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
  local state, window, queued, waiting, leased, patience, deadline =
    unpack(header(base, 'state', 'window', 'queued', 'n:waiting', 'n:leased', 'patience_ms',
                  'deadline_at'))
  if state ~= 'running' or tonumber(queued or '0') <= 0 then
    return false
  end
  local out = tonumber(waiting or '0') + tonumber(leased or '0') - tonumber(queued)
  local room = math.max(tonumber(window) - out, 0)
  local drained = 0
  while room > 0 and drained < DRAINED_AT_ONCE do
    local id = pop_queued(base)
    if not id then
      return false
    end
    local node = load_node(base, id)
    if node and node.state == 'waiting' then
      local barred = barred_state(base, id, node, deadline, now_ms)
      if barred then
        end_node(base, id, node, barred, now_ms, publish)
        drained = drained + 1
      else
        wake_at(base, id, now_ms + tonumber(patience))
        publish[#publish + 1] = {'run', id}
        room = room - 1
      end
    end
  end
  return drained == DRAINED_AT_ONCE
end

local function publish_json(publish)
  return #publish > 0 and cjson.encode(publish) or '[]'
end
