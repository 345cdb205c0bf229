-- Shared by all scripts here: this server's clock in s, and numbers as text that loses nothing.
local function number_text(n)
  return string.format('%.17g', n)
end

local function redis_now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end
