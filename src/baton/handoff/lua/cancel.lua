-- Does: cancels a handoff, or a node and all below it: none of it can be claimed from the first call
--       on; ends waiting nodes, a slice a call. Leased nodes end when their workers notice, or when
--       their leases lapse.
-- KEYS[1]: the handoff's base key
-- ARGV[1]: nodes in a slice   ARGV[2]: "queue" at first, then what the call before returned
-- ARGV[3]: node, or "" for the handoff
-- Returns: {state, where to go on or "end", publish JSON}, or {"unknown", "end", "[]"} if there is
--          no such node. Asked twice, goes on from the same place.
-- Errors:  none of its own
-- include: tree.lua
-- include: window.lua
local base = KEYS[1]
local limit, cursor = tonumber(ARGV[1]), ARGV[2]
local root = ARGV[3]
local state = redis.call('HGET', base, 'state')
if state ~= 'running' then
  return {state or 'gone', 'end', '[]'}
end
if root ~= '' and not load_node(base, root) then
  return {'unknown', 'end', '[]'}
end
local now_ms = redis_now_ms()
local publish = {}
if root == '' then
  cancel(base, now_ms)
elseif not TERMINAL[load_node(base, root).state] and not is_stopped(base, root) then
  local cuts = redis.call('HGET', base, 'cuts')
  redis.call('HSET', base, 'cuts', cuts and cuts .. ',' .. root or root)
  emit(base, {type = 'progress', node = root, text = 'is being cancelled, and all below it'})
end

local done = 0  -- nodes ended or taken off the queue
local function stop(id)
  local node = load_node(base, id)
  if node and node.state == 'waiting' then
    end_node(base, id, node, stopped_state(base, node), now_ms, publish)
    done = done + 1
    return true
  end
  return false
end

local function is_below(id)
  return root == '' or id == root or string.sub(id, 1, #root + 1) == root .. '.'
end

-- What is queued goes first. A root that is itself queued is in a range with its siblings: it stays
-- there, ended, and is passed over when its turn comes. One behind another in a chain is nowhere.
if cursor == 'queue' then
  if root ~= '' then
    local before = node_before(base, root)
    if stop(root) and before and not TERMINAL[before.state] then
      redis.call('HINCRBY', base, 'queued', -1)
    end
  end
  cursor = '0'
  for _, entry in ipairs(redis.call('LRANGE', base .. ':queue', 0, -1)) do
    local prefix, first, last = string.match(entry, '^(.*):(%d+):(%d+)$')
    if math.max(done, ended_so_far) >= limit then
      cursor = 'queue'
      break
    end
    if root == '' or string.sub(prefix, 1, #root + 1) == root .. '.' then
      local stop_at = math.min(tonumber(last), tonumber(first) + limit - 1)
      redis.call('LREM', base .. ':queue', 1, entry)
      if stop_at < tonumber(last) then
        redis.call('LPUSH', base .. ':queue',
                   prefix .. ':' .. number_text(stop_at + 1) .. ':' .. last)
        cursor = 'queue'
      end
      for slot = tonumber(first), stop_at do
        redis.call('HINCRBY', base, 'queued', -1)
        if not stop(prefix .. number_text(slot)) then
          done = done + 1
        end
      end
    end
  end
-- A scan finds every node that stays in the set all the while, however renewals reorder it.
else
  local found = redis.call('ZSCAN', base .. ':due', cursor, 'COUNT', limit)
  cursor = found[1] == '0' and 'end' or found[1]
  for i = 1, #found[2], 2 do
    local id = found[2][i]
    local node = is_below(id) and load_node(base, id)
    if node and TERMINAL[node.state] then
      redis.call('ZREM', base .. ':due', id)
    elseif node then
      stop(id)
    end
  end
end
fill_window(base, publish, now_ms)
keep_alive(base, true)
return {redis.call('HGET', base, 'state'), cursor, publish_json(publish)}
