-- Does: begins to publish a handoff's nodes: a window of them, now under the sweep's care
-- KEYS[1]: the handoff's base key
-- Returns: {state, publish JSON, first-level nodes}. Asked again, what is published then are the
--          nodes under its care.
-- Errors:  none of its own
-- include: tree.lua
-- include: window.lua
local base = KEYS[1]
local state, window, first_level = unpack(header(base, 'state', 'window', 'first_level'))
if state ~= 'running' then
  return {state or 'gone', '[]', 0}
end
local publish = {}
redis.call('HSET', base, 'begun', 1)
if redis.call('ZREM', base .. ':due', 'start') == 1 then
  fill_window(base, publish, redis_now_ms())
else
  for _, id in ipairs(redis.call('ZRANGE', base .. ':due', 0, tonumber(window) - 1)) do
    local node = load_node(base, id)
    if node and node.state == 'waiting' then
      publish[#publish + 1] = {'run', id}
    end
  end
end
keep_alive(base, true)
return {state, publish_json(publish), tonumber(first_level)}
