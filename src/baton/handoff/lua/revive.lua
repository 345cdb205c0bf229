-- Does: puts what a handoff waits for back under the sweep's care, where nothing cares for it any more
-- KEYS[1]: the handoff's base key
-- ARGV[1...]: nodes, `start` or `join`
-- Returns: how many of them are due now that were not
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local state, queued = unpack(header(base, 'state', 'queued'))
if state ~= 'running' and state ~= 'joining' then
  return 0
end
local now_ms = redis_now_ms()

-- When it is due, or nil where the sweep need not look at it.
local function due_ms(member)
  if member == 'join' then
    return state == 'joining' and now_ms or nil
  elseif state ~= 'running' then
    return nil
  elseif member == 'start' then
    return tonumber(queued or '0') > 0 and now_ms or nil
  end
  local node = load_node(base, member)
  if node and node.state == 'waiting' then
    return now_ms
  elseif node and node.state == 'leased' then
    return math.min(now_ms, node.deadline - 1)  -- a lost worker's, not one that took too long
  end
  return nil
end

local revived = 0
for _, member in ipairs(ARGV) do
  local at_ms = due_ms(member)
  if at_ms then
    revived = revived + redis.call('ZADD', base .. ':due', 'NX', number_text(at_ms), member)
  end
end
keep_alive(base)
return revived
