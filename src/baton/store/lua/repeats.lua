-- Shared by scripts that may be asked again, because a reply was lost, and cannot tell by what they
-- find. The container holds the last ids that they were asked under, and what the answer was.
local REMEMBERED = 8

-- The `done` of a container -> what was answered under that id, or nil. An id is hexadecimal.
local function done_as(done, id)
  return string.match(done or '', id .. '=([^ ]*)')
end

local function remember_done(base, id, answered)
  local kept = {id .. '=' .. answered}
  for entry in string.gmatch(redis.call('HGET', base, 'done') or '', '[^ ]+') do
    if #kept < REMEMBERED then
      kept[#kept + 1] = entry
    end
  end
  redis.call('HSET', base, 'done', table.concat(kept, ' '))
end
